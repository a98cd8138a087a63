-- The access log: every look-up of a person (W4).
--
-- Rules for the next person
--   - A row is what one commit noted of look-ups that are alike in all but person and time;
--     access.entry shows them one by one. Whoever counts, counts there.
--   - Nothing changes or goes, save a whole month: its table is dropped by the owner when the time
--     for which look-ups are kept is over.
--   - Months are made ahead by `ledger migrate` (access.add_months). What comes after the last of
--     them goes into the default partition rather than nowhere.

CREATE OR REPLACE FUNCTION ledger.schema_version() RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT 6';

CREATE SCHEMA access;

CREATE TABLE access.lookup (
    noted_at  timestamptz   NOT NULL,
    lookup_id uuid          NOT NULL,
    caller    text          NOT NULL,
    role      text          NOT NULL,
    purpose   text          NOT NULL,
    method    text          NOT NULL,
    asked     text          NOT NULL,
    times     timestamptz[] NOT NULL,
    persons   uuid[]        NOT NULL,
    CONSTRAINT lookup_pkey PRIMARY KEY (noted_at, lookup_id),
    CONSTRAINT lookup_persons_check
        CHECK (cardinality(persons) > 0 AND cardinality(persons) = cardinality(times))
) PARTITION BY RANGE (noted_at);
COMMENT ON COLUMN access.lookup.persons IS 'who was looked up; nil where nobody was found';
COMMENT ON COLUMN access.lookup.times IS 'when each was';
COMMENT ON COLUMN access.lookup.noted_at IS 'the last of times; its month (UTC) is the row''s table';

CREATE FUNCTION access.refuse_change() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the access log is append-only: % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

-- A trigger for statements is each table's own: every month has one besides.
CREATE TRIGGER lookup_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON access.lookup
    FOR EACH STATEMENT EXECUTE FUNCTION access.refuse_change();

-- Whole in its page up to some 300 look-ups: to compress it would cost more than it saves.
CREATE TABLE access.lookup_later PARTITION OF access.lookup DEFAULT WITH (toast_tuple_target = 8160);
CREATE TRIGGER lookup_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON access.lookup_later
    FOR EACH STATEMENT EXECUTE FUNCTION access.refuse_change();

-- Makes the months from p_from to p_until that are not there; none of which there are look-ups in the
-- default partition already.
CREATE FUNCTION access.add_months(p_from date, p_until date) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    month timestamp;
    name  text;
BEGIN
    FOR month IN
        SELECT generate_series(date_trunc('month', p_from::timestamp), p_until, interval '1 month')
    LOOP
        name := 'lookup_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass('access.' || name) IS NOT NULL;
        CONTINUE WHEN EXISTS (
            SELECT FROM access.lookup_later
            WHERE noted_at >= month AT TIME ZONE 'UTC'
              AND noted_at < (month + interval '1 month') AT TIME ZONE 'UTC');
        EXECUTE format(
            'CREATE TABLE access.%I PARTITION OF access.lookup FOR VALUES FROM (%L) TO (%L)
             WITH (toast_tuple_target = 8160)',
            name, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        EXECUTE format(
            'CREATE TRIGGER lookup_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON access.%I
             FOR EACH STATEMENT EXECUTE FUNCTION access.refuse_change()', name);
    END LOOP;
END
$$;

CREATE VIEW access.entry AS
    SELECT e.at, l.caller, l.role, l.purpose, l.method, l.asked, e.person_id, l.noted_at, l.lookup_id
    FROM access.lookup AS l, unnest(l.times, l.persons) AS e (at, person_id);

GRANT USAGE ON SCHEMA access TO frikort_ledger, frikort_projector, frikort_auditor;
GRANT INSERT, SELECT ON access.lookup TO frikort_ledger;
GRANT INSERT ON access.lookup TO frikort_projector;
GRANT SELECT ON access.lookup, access.entry TO frikort_auditor;
