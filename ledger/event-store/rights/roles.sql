-- The roles, where they are missing: they belong to the cluster, so no dump of a database has them.
-- Run by the user who migrates.
DO $$
DECLARE
    service name;
BEGIN
    FOREACH service IN ARRAY ARRAY['frikort_ledger', 'frikort_projector', 'frikort_auditor',
                                   'frikort_migrator'] LOOP
        CONTINUE WHEN to_regrole(service) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', service);
        EXCEPTION
            -- Another database of the cluster is making it now.
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                -- Without a migrator everything stays with the user who migrates.
                IF service <> 'frikort_migrator' THEN
                    RAISE insufficient_privilege USING MESSAGE = format(
                        'the role %s is missing, and %s may not make it: run `ledger migrate` as a '
                        'superuser, or as a user with CREATEROLE', service, current_user);
                END IF;
        END;
    END LOOP;
END
$$;
