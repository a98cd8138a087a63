-- The database is for our roles only. These rights are in no dump and in no copy of a database. Run
-- by the user who migrates; one who does not own the database cannot give them.
DO $$
DECLARE
    service name;
    ours oid := (SELECT datdba FROM pg_database WHERE datname = current_database());
BEGIN
    IF NOT pg_has_role(ours, 'USAGE') THEN
        RETURN;
    END IF;
    -- Two at a time would fail on the same row.
    PERFORM pg_advisory_xact_lock(hashtext('frikort database rights'));
    FOREACH service IN ARRAY ARRAY['frikort_ledger', 'frikort_projector', 'frikort_auditor'] LOOP
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), service);
    END LOOP;
    IF to_regrole('frikort_migrator') IS NOT NULL THEN
        EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO frikort_migrator',
                       current_database());
    END IF;
    EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    IF to_regnamespace('public') IS NOT NULL THEN
        -- The table of the migrations is there, and is looked for with the right to create it.
        IF to_regrole('frikort_migrator') IS NOT NULL THEN
            GRANT USAGE, CREATE ON SCHEMA public TO frikort_migrator;
        END IF;
        REVOKE USAGE, CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'some rights to the database cannot be given: %', SQLERRM;
END
$$;
