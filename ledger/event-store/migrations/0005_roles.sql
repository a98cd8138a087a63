-- Who may do what: an owner that is nobody's login for daily work, and for each role the rights
-- that it uses.
--
-- Rules for the next person
--   - Whatever a migration makes belongs to frikort_migrator: from here on `ledger migrate` works as
--     the owner of ledger.event, whoever runs it. A role is made after RESET ROLE.
--   - A new table or function is entered in tests/tests/roles/rights.txt, with who may do what.
--   - Rights to the database itself (CONNECT, TEMPORARY) are in no dump and in no copy; they are
--     given in src/migrate.rs, each time.

CREATE OR REPLACE FUNCTION ledger.schema_version() RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT 5';

-- Hands everything over to frikort_migrator, which whoever migrates here becomes a member of. Where
-- they may make no role, or not become a member of one that is there, everything stays theirs, and
-- the rest of this migration holds all the same: the services refuse to run as that user.
DO $$
DECLARE
    object text;
BEGIN
    BEGIN
        CREATE ROLE frikort_migrator LOGIN;
    EXCEPTION
        -- Another database of the cluster has made it, or is making it now; or we may not.
        WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
    END;
    IF to_regrole('frikort_migrator') IS NULL THEN
        RAISE insufficient_privilege USING MESSAGE = 'the role does not exist';
    END IF;
    IF NOT pg_has_role('frikort_migrator', 'USAGE') THEN
        EXECUTE format('GRANT frikort_migrator TO %I', current_user);
    END IF;
    EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO frikort_migrator', current_database());
    -- The table of the migrations lies there, and is looked for with the right to create it.
    IF to_regnamespace('public') IS NOT NULL THEN
        GRANT USAGE, CREATE ON SCHEMA public TO frikort_migrator;
    END IF;
    FOR object IN
        SELECT format('SCHEMA %I', nspname) FROM pg_namespace
         WHERE nspname IN ('ledger', 'register', 'projection')
    LOOP
        EXECUTE 'ALTER ' || object || ' OWNER TO frikort_migrator';
    END LOOP;
    FOR object IN
        SELECT 'TABLE ' || c.oid::regclass
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.oid = to_regclass('_sqlx_migrations')
            OR n.nspname IN ('ledger', 'register', 'projection') AND c.relkind IN ('r', 'p')
        UNION ALL
        SELECT 'FUNCTION ' || f.oid::regprocedure
          FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
         WHERE n.nspname IN ('ledger', 'register', 'projection')
    LOOP
        EXECUTE 'ALTER ' || object || ' OWNER TO frikort_migrator';
    END LOOP;
    -- A function that a later migration makes is nobody's to call until it says whose.
    ALTER DEFAULT PRIVILEGES FOR ROLE frikort_migrator REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'the tables stay with %, as frikort_migrator cannot take them: %',
        current_user, SQLERRM;
END
$$;

-- What everybody has and nobody needs.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
DO $$
BEGIN
    IF to_regnamespace('public') IS NOT NULL THEN
        REVOKE CREATE, USAGE ON SCHEMA public FROM PUBLIC;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'the schema public stays open to everybody: it is not ours';
END
$$;

GRANT EXECUTE ON FUNCTION ledger.schema_version()
    TO frikort_ledger, frikort_projector, frikort_auditor;
GRANT EXECUTE ON FUNCTION
    ledger.append(integer, bigint, bigint, uuid[], bigint[], timestamptz[], text[])
    TO frikort_ledger;

-- A head is moved and fenced, and stays its partition's.
REVOKE UPDATE ON ledger.partition_head FROM frikort_ledger;
GRANT UPDATE (position, fence, recorded_at) ON ledger.partition_head TO frikort_ledger;

-- The projector finds persons; sealed CPR numbers are for the ledger, which has the key.
REVOKE SELECT ON register.person FROM frikort_projector;
GRANT SELECT (cpr_tag, person_id, partition, salt) ON register.person TO frikort_projector;

-- Decisions are entered and dropped; none changes.
REVOKE UPDATE ON projection.application FROM frikort_projector;
