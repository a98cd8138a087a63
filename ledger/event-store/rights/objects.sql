-- Who may do what with each table, function and schema; and what refuses changes. Run at the end of
-- every `ledger migrate`, as the owner, in one transaction: services never see half of it.
--
-- Rules for the next person
--   - This is the one place for rights. A migration gives none that are not here: what is not here is
--     taken away.
--   - What is new is entered in tests/tests/roles/rights.txt too, against which a test holds this.
--   - Other roles than these are not ours: what they were granted stays.

SELECT pg_advisory_xact_lock(hashtext('frikort database rights'));

-- Nobody but the owner holds anything, until the next lines give it.
DO $$
DECLARE
    place name;
    everybody text := 'PUBLIC, frikort_ledger, frikort_projector, frikort_auditor';
BEGIN
    FOREACH place IN ARRAY ARRAY['ledger', 'register', 'projection', 'access'] LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %s', place, everybody);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %s', place, everybody);
        EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %I FROM %s', place, everybody);
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA ledger, projection, access
    TO frikort_ledger, frikort_projector, frikort_auditor;
GRANT USAGE ON SCHEMA register TO frikort_ledger, frikort_projector;

-- Events are appended. A head is moved and fenced, and stays its partition's.
GRANT EXECUTE ON FUNCTION ledger.schema_version, ledger.event_hash
    TO frikort_ledger, frikort_projector, frikort_auditor;
GRANT EXECUTE ON FUNCTION ledger.append TO frikort_ledger;
GRANT SELECT ON ledger.partition_head, ledger.event, ledger.tile, ledger.checkpoint
    TO frikort_ledger, frikort_projector, frikort_auditor;
GRANT INSERT ON ledger.event, ledger.tile, ledger.checkpoint TO frikort_ledger;
GRANT UPDATE (position, fence, recorded_at) ON ledger.partition_head TO frikort_ledger;

-- A ledger puts a loss on record, and withdraws it where nothing is lost. The owner accepts it.
GRANT SELECT ON ledger.history_incident TO frikort_ledger, frikort_projector, frikort_auditor;
GRANT INSERT (partition, evidence_position, evidence_hash, first_lost_position,
              last_lost_position, head_position, found_at, checkpoint),
      UPDATE (found_at, head_position, withdrawn_at)
    ON ledger.history_incident TO frikort_ledger;

-- The ledger enters persons, and destroys the rows of those on record as forgotten. The projector
-- finds persons; sealed CPR numbers are for the ledger, which has the key.
GRANT SELECT, INSERT, DELETE ON register.person TO frikort_ledger;
GRANT SELECT (cpr_tag, person_id, partition, salt) ON register.person TO frikort_projector;
GRANT SELECT, INSERT ON register.forgetting, register.forgotten TO frikort_ledger;
GRANT SELECT (number) ON register.forgotten TO frikort_projector;

-- The projector folds. Decisions about applications are entered and dropped; none changes.
GRANT SELECT ON projection.checkpoint, projection.annual_total, projection.payment,
    projection.card, projection.annual_limit, projection.application
    TO frikort_ledger, frikort_projector, frikort_auditor;
GRANT INSERT, DELETE ON projection.checkpoint, projection.annual_total, projection.payment,
    projection.card, projection.annual_limit, projection.application TO frikort_projector;
GRANT UPDATE ON projection.checkpoint, projection.annual_total, projection.payment,
    projection.card, projection.annual_limit TO frikort_projector;

-- Both services note lookups; the months' tables are written through access.lookup.
GRANT SELECT, INSERT ON access.lookup TO frikort_ledger;
GRANT INSERT ON access.lookup TO frikort_projector;
GRANT SELECT ON access.lookup, access.entry TO frikort_auditor;

-- What refuses changes: there, and enabled, whatever a restore or a hand has done.
DO $$
DECLARE
    guarded record;
BEGIN
    FOR guarded IN
        SELECT guard.relation::regclass AS relation, guard.name, guard.function
          FROM (VALUES ('ledger.event', 'event_append_only', 'ledger.refuse_change'),
                       ('ledger.tile', 'tile_append_only', 'ledger.refuse_change'),
                       ('ledger.checkpoint', 'checkpoint_append_only', 'ledger.refuse_change'),
                       ('register.forgetting', 'forgetting_append_only', 'register.refuse_change'),
                       ('register.forgotten', 'forgotten_append_only', 'register.refuse_change')
               ) AS guard (relation, name, function)
        UNION ALL
        -- Every month has one besides.
        SELECT relid, 'lookup_append_only', 'access.refuse_change'
          FROM pg_partition_tree('access.lookup')
    LOOP
        IF NOT EXISTS (SELECT FROM pg_trigger
                        WHERE tgrelid = guarded.relation AND tgname = guarded.name) THEN
            EXECUTE format(
                'CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
                 FOR EACH STATEMENT EXECUTE FUNCTION %s()',
                guarded.name, guarded.relation, guarded.function);
        END IF;
    END LOOP;
    -- An incident may be decided once, so that each row is looked at.
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'ledger.history_incident'::regclass
                                            AND tgname = 'history_incident_kept') THEN
        CREATE TRIGGER history_incident_kept BEFORE UPDATE OR DELETE ON ledger.history_incident
            FOR EACH ROW EXECUTE FUNCTION ledger.refuse_incident_change();
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'ledger.history_incident'::regclass
                                            AND tgname = 'history_incident_never_emptied') THEN
        CREATE TRIGGER history_incident_never_emptied BEFORE TRUNCATE ON ledger.history_incident
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_incident_change();
    END IF;
    FOR guarded IN
        SELECT t.tgrelid::regclass AS relation, t.tgname AS name
          FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
          JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname IN ('ledger', 'register', 'projection', 'access')
           AND NOT t.tgisinternal AND t.tgenabled <> 'O'
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I', guarded.relation, guarded.name);
    END LOOP;
END
$$;

-- Which rows of the register go: of those on record as forgotten.
DO $$
BEGIN
    IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = 'register.person'::regclass) THEN
        ALTER TABLE register.person ENABLE ROW LEVEL SECURITY;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_policy
                    WHERE polrelid = 'register.person'::regclass AND polname = 'person_read') THEN
        CREATE POLICY person_read ON register.person FOR SELECT USING (true);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_policy
                    WHERE polrelid = 'register.person'::regclass AND polname = 'person_enter') THEN
        CREATE POLICY person_enter ON register.person FOR INSERT WITH CHECK (true);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_policy
                    WHERE polrelid = 'register.person'::regclass AND polname = 'person_forget') THEN
        CREATE POLICY person_forget ON register.person FOR DELETE
            USING (EXISTS (SELECT FROM register.forgotten AS f WHERE f.person_id = person.person_id));
    END IF;
END
$$;
