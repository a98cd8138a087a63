-- What municipalities and employers list, and whom a changed limit reaches.
--
-- The new columns are filled by folding: the projection begins again at the first event. Queries
-- answer as of where it is meanwhile.

CREATE OR REPLACE FUNCTION ledger.schema_version() RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT 2';

TRUNCATE projection.annual_total, projection.payment, projection.card, projection.annual_limit;
UPDATE projection.checkpoint SET position = 0, recorded_at = NULL;

ALTER TABLE projection.annual_total ADD COLUMN applied_limit numeric(14, 2) NOT NULL;
COMMENT ON COLUMN projection.annual_total.applied_limit IS 'the limit by which the splits of the year were last settled';

-- An employer's payments in the order in which they last changed.
CREATE INDEX payment_changed ON projection.payment
    (partition, employer_cvr, position, person_id, reference);

ALTER TABLE projection.card
    ADD COLUMN municipality  smallint NOT NULL,
    ADD COLUMN active        boolean  NOT NULL,
    ADD COLUMN controlled_in integer  NOT NULL;
COMMENT ON COLUMN projection.card.controlled_in IS 'calendar year of the last grant or control';
CREATE INDEX card_control ON projection.card
    (partition, municipality, controlled_in, person_id) WHERE active;

-- Decisions about applications, for the time they took.
CREATE TABLE projection.application (
    partition    integer  NOT NULL,
    position     bigint   NOT NULL,
    municipality smallint NOT NULL,
    decided_on   date     NOT NULL,
    days         integer  NOT NULL,
    CONSTRAINT application_pkey PRIMARY KEY (partition, position),
    CONSTRAINT application_days_check CHECK (days >= 0)
);
CREATE INDEX application_decided ON projection.application (partition, decided_on);
COMMENT ON COLUMN projection.application.days IS 'from the application to the decision';

GRANT SELECT, INSERT, UPDATE ON projection.application TO frikort_projector;
GRANT SELECT ON projection.application TO frikort_auditor;

-- The ledger reads there whom a changed limit may reach; what it does to them it decides itself.
GRANT USAGE ON SCHEMA projection TO frikort_ledger;
GRANT SELECT ON projection.annual_total, projection.checkpoint TO frikort_ledger;
