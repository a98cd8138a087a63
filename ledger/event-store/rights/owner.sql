-- Everything belongs to frikort_migrator, also what was restored without its owner. Run by the user
-- who migrates. A user who cannot hand over, or become a member of frikort_migrator, stays the owner:
-- the services refuse to run as that user.
DO $$
DECLARE
    owned text;
BEGIN
    IF to_regrole('frikort_migrator') IS NULL OR to_regclass('ledger.event') IS NULL THEN
        RETURN;
    END IF;
    -- Two at a time would fail on the same row.
    PERFORM pg_advisory_xact_lock(hashtext('frikort database rights'));
    FOR owned IN
        WITH place AS (
            SELECT oid, nspname, nspowner FROM pg_namespace
             WHERE nspname IN ('ledger', 'register', 'projection', 'access')
        )
        SELECT thing FROM (
            SELECT 1 AS part, format('SCHEMA %I', nspname) AS thing, nspowner AS owner FROM place
            UNION ALL
            SELECT 2, CASE c.relkind WHEN 'v' THEN 'VIEW ' ELSE 'TABLE ' END || c.oid::regclass,
                   c.relowner
              FROM pg_class AS c
             WHERE c.relkind IN ('r', 'p', 'v')
               AND (c.relnamespace IN (SELECT oid FROM place)
                    OR c.oid = to_regclass('public._sqlx_migrations'))
            UNION ALL
            SELECT 3, 'FUNCTION ' || f.oid::regprocedure, f.proowner
              FROM pg_proc AS f WHERE f.pronamespace IN (SELECT oid FROM place)
        ) AS found
        WHERE owner <> 'frikort_migrator'::regrole ORDER BY part
    LOOP
        IF NOT pg_has_role('frikort_migrator', 'USAGE') THEN
            EXECUTE format('GRANT frikort_migrator TO %I', current_user);
        END IF;
        EXECUTE 'ALTER ' || owned || ' OWNER TO frikort_migrator';
    END LOOP;
    -- A function that a later migration makes is nobody's to call until it says whose.
    IF pg_has_role('frikort_migrator', 'USAGE') THEN
        ALTER DEFAULT PRIVILEGES FOR ROLE frikort_migrator REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'the tables stay with %, as frikort_migrator cannot take them: %',
        current_user, SQLERRM;
END
$$;
