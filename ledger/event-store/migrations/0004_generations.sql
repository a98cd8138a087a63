-- Generations of the projection: a new one is folded beside the one that is served, held against
-- it, and put in its place, while questions are answered.
--
-- Rules for the next person
--   - A migration never empties the projection again. What needs another fold raises
--     PROJECTION_VERSION in the projector: the next start folds a new generation beside the old
--     one, which is served until then.
--   - A column that is added has a default, so that the rows of the generation that is served stay
--     readable, and can be folded on, until they are replaced.
--   - Whoever reads these tables says of which generation, in the same statement: the one that is
--     served is the one whose checkpoint says so, and no other row is read.

CREATE OR REPLACE FUNCTION ledger.schema_version() RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT 4';

-- What is there was folded by version 1, since schema 2.
ALTER TABLE projection.checkpoint
    ADD COLUMN generation integer     NOT NULL DEFAULT 1,
    ADD COLUMN version    integer     NOT NULL DEFAULT 1,
    ADD COLUMN state      text        NOT NULL DEFAULT 'serving',
    ADD COLUMN since      timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN builder    uuid,
    ADD COLUMN beat       bigint      NOT NULL DEFAULT 0,
    DROP CONSTRAINT checkpoint_pkey,
    ADD CONSTRAINT checkpoint_pkey PRIMARY KEY (partition, generation),
    ADD CONSTRAINT checkpoint_generation_check CHECK (generation > 0),
    ADD CONSTRAINT checkpoint_state_check CHECK (state IN ('building', 'serving', 'retired'));
ALTER TABLE projection.checkpoint
    ALTER COLUMN generation DROP DEFAULT,
    ALTER COLUMN version SET DEFAULT 0,
    ALTER COLUMN state DROP DEFAULT;
COMMENT ON COLUMN projection.checkpoint.version IS 'version of the fold that began it; 0 where nothing is folded yet';
COMMENT ON COLUMN projection.checkpoint.state IS 'building, then serving, then retired; a retired one may be dropped';
COMMENT ON COLUMN projection.checkpoint.since IS 'since when it is in that state';
COMMENT ON COLUMN projection.checkpoint.builder IS 'the run that builds it; no other may';
COMMENT ON COLUMN projection.checkpoint.beat IS 'rises while that run is alive';

-- One is served, and at most one is built.
CREATE UNIQUE INDEX checkpoint_serving ON projection.checkpoint (partition) WHERE state = 'serving';
CREATE UNIQUE INDEX checkpoint_building ON projection.checkpoint (partition)
    WHERE state = 'building';

ALTER TABLE projection.annual_total
    ADD COLUMN generation integer NOT NULL DEFAULT 1,
    DROP CONSTRAINT annual_total_pkey,
    ADD CONSTRAINT annual_total_pkey PRIMARY KEY (partition, generation, person_id, year);
ALTER TABLE projection.annual_total ALTER COLUMN generation DROP DEFAULT;

ALTER TABLE projection.payment
    ADD COLUMN generation integer NOT NULL DEFAULT 1,
    DROP CONSTRAINT payment_pkey,
    ADD CONSTRAINT payment_pkey
        PRIMARY KEY (partition, generation, person_id, employer_cvr, reference);
ALTER TABLE projection.payment ALTER COLUMN generation DROP DEFAULT;
DROP INDEX projection.payment_changed;
CREATE INDEX payment_changed ON projection.payment
    (partition, generation, employer_cvr, position, person_id, reference);

ALTER TABLE projection.card
    ADD COLUMN generation integer NOT NULL DEFAULT 1,
    DROP CONSTRAINT card_pkey,
    ADD CONSTRAINT card_pkey PRIMARY KEY (partition, generation, person_id);
ALTER TABLE projection.card ALTER COLUMN generation DROP DEFAULT;
DROP INDEX projection.card_control;
CREATE INDEX card_control ON projection.card
    (partition, generation, municipality, controlled_in, person_id) WHERE active;

ALTER TABLE projection.annual_limit
    ADD COLUMN generation integer NOT NULL DEFAULT 1,
    DROP CONSTRAINT annual_limit_pkey,
    ADD CONSTRAINT annual_limit_pkey PRIMARY KEY (partition, generation, year, in_force_from);
ALTER TABLE projection.annual_limit ALTER COLUMN generation DROP DEFAULT;

ALTER TABLE projection.application
    ADD COLUMN generation integer NOT NULL DEFAULT 1,
    DROP CONSTRAINT application_pkey,
    ADD CONSTRAINT application_pkey PRIMARY KEY (partition, generation, position);
ALTER TABLE projection.application ALTER COLUMN generation DROP DEFAULT;
DROP INDEX projection.application_decided;
CREATE INDEX application_decided ON projection.application (partition, generation, decided_on);

-- What was retired is dropped by whoever folds.
GRANT DELETE ON projection.checkpoint, projection.annual_total, projection.payment,
    projection.card, projection.annual_limit, projection.application TO frikort_projector;
