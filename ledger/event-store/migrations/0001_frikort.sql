-- The whole schema: events (ledger), identities (register), totals (projection).
--
-- Rules for the next person
--   - A migration that has been released is never edited; add the next number, and raise
--     ledger.schema_version() and SCHEMA_VERSION in lib.rs with it.
--   - Every key of a table that belongs to a partition begins with `partition`, every constraint
--     has a name, and there is no sequence, so that the tables can be distributed by partition
--     as they are. register.person is found by CPR tag before a partition is known, and so is
--     keyed by it.
--   - Correctness rests on keys, grants and the head row. Triggers, NOTIFY and advisory locks
--     may help, and nothing may depend on them.

CREATE SCHEMA ledger;
CREATE SCHEMA register;
CREATE SCHEMA projection;

-- The login roles of the services. They belong to the cluster, not to the database, so another
-- database of the same cluster may have made them already, or be making them now.
DO $$
DECLARE
    service name;
BEGIN
    FOREACH service IN ARRAY ARRAY['frikort_ledger', 'frikort_projector', 'frikort_auditor'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', service);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;

CREATE FUNCTION ledger.schema_version() RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT 1';

-- One row a partition: the counter of positions, and the fence that lets one writer at a time
-- move it. `fence` rises when a writer that lost its connection makes sure that a call of its
-- that may still be under way can no longer succeed.
CREATE TABLE ledger.partition_head (
    partition   integer     NOT NULL,
    position    bigint      NOT NULL DEFAULT 0,
    fence       bigint      NOT NULL DEFAULT 0,
    recorded_at timestamptz,
    CONSTRAINT partition_head_pkey PRIMARY KEY (partition),
    CONSTRAINT partition_head_partition_check CHECK (partition >= 0),
    CONSTRAINT partition_head_position_check CHECK (position >= 0)
) WITH (fillfactor = 20);

-- The history. `record` is one line of canonical JSON; the other columns are in it too and stand
-- beside it to be found by. Events of the partition itself have the nil UUID as person_id.
CREATE TABLE ledger.event (
    partition   integer     NOT NULL,
    position    bigint      NOT NULL,
    person_id   uuid        NOT NULL,
    version     bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    record      text        NOT NULL,
    CONSTRAINT event_pkey PRIMARY KEY (partition, position),
    CONSTRAINT event_person_version_key UNIQUE (partition, person_id, version),
    CONSTRAINT event_position_check CHECK (position > 0),
    CONSTRAINT event_version_check CHECK (version > 0)
);

-- Nobody needs to change the past; the owner gets told so by name.
CREATE FUNCTION ledger.refuse_change() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger.event is append-only: % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER event_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.event
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- Appends a batch at p_position + 1, … if the head still stands at (p_position, p_fence);
-- answers false, and does nothing, if it does not. One call, one round trip, one commit.
CREATE FUNCTION ledger.append(
    p_partition   integer,
    p_position    bigint,
    p_fence       bigint,
    p_person_ids  uuid[],
    p_versions    bigint[],
    p_recorded_at timestamptz[],
    p_records     text[]
) RETURNS boolean
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ledger.partition_head
       SET position = p_position + cardinality(p_records),
           recorded_at = p_recorded_at[cardinality(p_recorded_at)]
     WHERE partition = p_partition AND position = p_position AND fence = p_fence;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO ledger.event (partition, position, person_id, version, recorded_at, record)
    SELECT p_partition, p_position + batch.ordinality, batch.person_id, batch.version,
           batch.recorded_at, batch.record
      FROM unnest(p_person_ids, p_versions, p_recorded_at, p_records)
           WITH ORDINALITY AS batch (person_id, version, recorded_at, record, ordinality);
    RETURN true;
END
$$;

-- Persons. Destroying a row forgets the person: events and totals stay valid, and nobody's.
CREATE TABLE register.person (
    cpr_tag   bytea   NOT NULL,
    person_id uuid    NOT NULL,
    partition integer NOT NULL,
    salt      bytea   NOT NULL,
    sealed    bytea   NOT NULL,
    CONSTRAINT person_pkey PRIMARY KEY (cpr_tag)
);
CREATE INDEX person_person_id ON register.person (person_id);

-- What the projector has folded. Position and totals change in one transaction.
CREATE TABLE projection.checkpoint (
    partition   integer     NOT NULL,
    position    bigint      NOT NULL DEFAULT 0,
    recorded_at timestamptz,
    CONSTRAINT checkpoint_pkey PRIMARY KEY (partition)
) WITH (fillfactor = 20);

CREATE TABLE projection.annual_total (
    partition integer        NOT NULL,
    person_id uuid           NOT NULL,
    year      integer        NOT NULL,
    total     numeric(14, 2) NOT NULL,
    payments  integer        NOT NULL,
    position  bigint         NOT NULL,
    CONSTRAINT annual_total_pkey PRIMARY KEY (partition, person_id, year),
    CONSTRAINT annual_total_total_check CHECK (total >= 0),
    CONSTRAINT annual_total_payments_check CHECK (payments >= 0)
) WITH (fillfactor = 80);

CREATE TABLE projection.payment (
    partition        integer        NOT NULL,
    person_id        uuid           NOT NULL,
    employer_cvr     integer        NOT NULL,
    reference        text           NOT NULL,
    registered       bigint         NOT NULL,
    drawn            bigint         NOT NULL,
    position         bigint         NOT NULL,
    year             integer        NOT NULL,
    revision         integer        NOT NULL,
    attribution_date date           NOT NULL,
    payment_date     date           NOT NULL,
    work_first       date,
    work_last        date,
    cancelled        boolean        NOT NULL,
    amount           numeric(14, 2) NOT NULL,
    exempt           numeric(14, 2) NOT NULL,
    hours            numeric(5, 2),
    wage             numeric(14, 2),
    holiday_pay      numeric(14, 2),
    pension          numeric(14, 2),
    CONSTRAINT payment_pkey PRIMARY KEY (partition, person_id, employer_cvr, reference),
    CONSTRAINT payment_split_check CHECK (exempt >= 0 AND (cancelled OR exempt <= amount))
) WITH (fillfactor = 90);
COMMENT ON COLUMN projection.payment.registered IS 'position of payment_reported';
COMMENT ON COLUMN projection.payment.drawn IS 'position of the event that placed it in its year: the order of drawing';

CREATE TABLE projection.card (
    partition    integer NOT NULL,
    person_id    uuid    NOT NULL,
    frikort_tags uuid[]  NOT NULL,
    position     bigint  NOT NULL,
    CONSTRAINT card_pkey PRIMARY KEY (partition, person_id)
);
COMMENT ON COLUMN projection.card.frikort_tags IS 'tags of the Frikort-IDs granted; 16 bytes, kept as uuid';

CREATE TABLE projection.annual_limit (
    partition     integer        NOT NULL,
    year          integer        NOT NULL,
    in_force_from date           NOT NULL,
    amount        numeric(14, 2) NOT NULL,
    citation      text           NOT NULL,
    position      bigint         NOT NULL,
    CONSTRAINT annual_limit_pkey PRIMARY KEY (partition, year, in_force_from)
);

-- Who may do what. Nobody but the owner holds more than this.
GRANT USAGE ON SCHEMA ledger TO frikort_ledger, frikort_projector, frikort_auditor;
GRANT USAGE ON SCHEMA register TO frikort_ledger, frikort_projector;
GRANT USAGE ON SCHEMA projection TO frikort_projector, frikort_auditor;

GRANT SELECT ON ledger.partition_head, ledger.event
    TO frikort_ledger, frikort_projector, frikort_auditor;
GRANT UPDATE ON ledger.partition_head TO frikort_ledger;
GRANT INSERT ON ledger.event TO frikort_ledger;
GRANT SELECT, INSERT ON register.person TO frikort_ledger;
GRANT SELECT ON register.person TO frikort_projector;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA projection TO frikort_projector;
GRANT SELECT ON ALL TABLES IN SCHEMA projection TO frikort_auditor;
