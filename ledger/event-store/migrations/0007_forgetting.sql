-- Forgetting a person: who asked for it and who confirmed it, and the right to destroy the rows that
-- lead to the person once that is on record.
--
-- Rules for the next person
--   - What is on record here names nobody: the person's opaque id, and no CPR number, tag or salt.
--   - A row of register.person goes only when register.forgotten has its person. DELETE cannot be
--     granted for some rows, so a policy says which; grants say who, so policies name no role.
--   - A number is given under a lock on register.person (forget.rs): 1, 2, 3 … in commit order, so
--     that a process that has seen the last of them has seen all.

CREATE OR REPLACE FUNCTION ledger.schema_version() RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT 7';

CREATE TABLE register.forgetting (
    request_id   uuid        NOT NULL,
    person_id    uuid        NOT NULL,
    reference    text        NOT NULL,
    requested_by text        NOT NULL,
    requested_at timestamptz NOT NULL,
    CONSTRAINT forgetting_pkey PRIMARY KEY (request_id),
    CONSTRAINT forgetting_person_key UNIQUE (person_id, reference)
);
CREATE INDEX forgetting_requested_at ON register.forgetting (requested_at, request_id);

CREATE TABLE register.forgotten (
    number       bigint      NOT NULL,
    request_id   uuid        NOT NULL,
    person_id    uuid        NOT NULL,
    requested_by text        NOT NULL,
    confirmed_by text        NOT NULL,
    confirmed_at timestamptz NOT NULL,
    CONSTRAINT forgotten_pkey PRIMARY KEY (number),
    CONSTRAINT forgotten_request_key UNIQUE (request_id),
    CONSTRAINT forgotten_number_check CHECK (number > 0),
    CONSTRAINT forgotten_two_callers_check CHECK (confirmed_by <> requested_by)
);
CREATE INDEX forgotten_person_id ON register.forgotten (person_id);

CREATE FUNCTION register.refuse_change() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was forgotten is append-only: % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER forgetting_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON register.forgetting
    FOR EACH STATEMENT EXECUTE FUNCTION register.refuse_change();
CREATE TRIGGER forgotten_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON register.forgotten
    FOR EACH STATEMENT EXECUTE FUNCTION register.refuse_change();

ALTER TABLE register.person ENABLE ROW LEVEL SECURITY;
CREATE POLICY person_read ON register.person FOR SELECT USING (true);
CREATE POLICY person_enter ON register.person FOR INSERT WITH CHECK (true);
CREATE POLICY person_forget ON register.person FOR DELETE
    USING (EXISTS (SELECT FROM register.forgotten AS f WHERE f.person_id = person.person_id));

GRANT SELECT, INSERT ON register.forgetting, register.forgotten TO frikort_ledger;
GRANT DELETE ON register.person TO frikort_ledger;
-- How many were forgotten: when that rises, what is in memory of persons is let go.
GRANT SELECT (number) ON register.forgotten TO frikort_projector;
