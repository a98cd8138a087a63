-- The identity of a history: which events a position stands for, and what was lost of them.
--
-- A database can go back: a snapshot is restored, a standby without the last commits is promoted. A
-- position then names another event, or none. So whatever rests on a position also keeps the hash
-- of the event at that position, and is believed only while the event has that hash.
--
-- Rules for the next person
--   - The hash of an event is the leaf hash of the transparency log: SHA-256 of a zero byte and the
--     record. Position 0, before the first event, has 32 zero bytes.
--   - An incident is open until its evidence stands in the history again (withdrawn) or an operator
--     accepts the loss. While one is open, nothing is appended to its partition.
--   - Rights, and the triggers that refuse changes, are in rights/objects.sql.

CREATE OR REPLACE FUNCTION ledger.schema_version() RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT 8';

-- The hash of the event at a position; NULL where there is no such event. In PL/pgSQL, which plans the
-- query once a session: each append asks for one.
CREATE FUNCTION ledger.event_hash(p_partition integer, p_position bigint) RETURNS bytea
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_position = 0 THEN
        RETURN decode(repeat('00', 32), 'hex');
    END IF;
    RETURN (SELECT sha256('\x00'::bytea || convert_to(record, 'UTF8'))
              FROM ledger.event
             WHERE partition = p_partition AND position = p_position);
END
$$;

-- Acknowledged or signed events that are not in the history any more.
CREATE TABLE ledger.history_incident (
    partition           integer     NOT NULL,
    evidence_position   bigint      NOT NULL,
    evidence_hash       bytea       NOT NULL,
    first_lost_position bigint      NOT NULL,
    last_lost_position  bigint      NOT NULL,
    head_position       bigint      NOT NULL,
    found_at            timestamptz NOT NULL,
    checkpoint          text,
    withdrawn_at        timestamptz,
    accepted_at         timestamptz,
    accepted_by         text,
    reason              text,
    CONSTRAINT history_incident_pkey PRIMARY KEY (partition, evidence_position, evidence_hash),
    CONSTRAINT history_incident_hash_check CHECK (octet_length(evidence_hash) = 32),
    CONSTRAINT history_incident_range_check
        CHECK (first_lost_position > 0 AND last_lost_position >= first_lost_position),
    CONSTRAINT history_incident_accepted_check
        CHECK ((accepted_at IS NULL) = (accepted_by IS NULL)
           AND (accepted_at IS NULL) = (reason IS NULL))
);
COMMENT ON COLUMN ledger.history_incident.evidence_hash IS 'the hash that the event at evidence_position had when it was acknowledged or signed';
COMMENT ON COLUMN ledger.history_incident.head_position IS 'the head when the loss was found';
COMMENT ON COLUMN ledger.history_incident.checkpoint IS 'the signed checkpoint that covers what is lost, where there is one';
COMMENT ON COLUMN ledger.history_incident.withdrawn_at IS 'when the evidence was found to stand in the history again';
CREATE INDEX history_incident_open ON ledger.history_incident (partition)
    WHERE accepted_at IS NULL AND withdrawn_at IS NULL;

-- What was found is never changed, and a decision about it is made once.
CREATE FUNCTION ledger.refuse_incident_change() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.accepted_at IS NULL
       AND (OLD.partition, OLD.evidence_position, OLD.evidence_hash, OLD.first_lost_position,
            OLD.last_lost_position, OLD.checkpoint)
         IS NOT DISTINCT FROM
           (NEW.partition, NEW.evidence_position, NEW.evidence_hash, NEW.first_lost_position,
            NEW.last_lost_position, NEW.checkpoint) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'ledger.history_incident keeps what was found: % refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Appends a batch at p_position + 1, … if the head is at (p_position, p_fence), the event there has
-- p_event_hash, and no incident of the partition is open; returns false, and does nothing, otherwise.
-- One call, one round trip, one commit.
DROP FUNCTION ledger.append(integer, bigint, bigint, uuid[], bigint[], timestamptz[], text[]);
CREATE FUNCTION ledger.append(
    p_partition   integer,
    p_position    bigint,
    p_fence       bigint,
    p_event_hash  bytea,
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
     WHERE partition = p_partition AND position = p_position AND fence = p_fence
       AND ledger.event_hash(p_partition, p_position) = p_event_hash
       AND NOT EXISTS (SELECT FROM ledger.history_incident
                        WHERE partition = p_partition
                          AND accepted_at IS NULL AND withdrawn_at IS NULL);
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

-- A projection is of the history whose event its checkpoint names. One that is folded anew in the place
-- of another, since that was of another history, answers nothing before it is where that was.
ALTER TABLE projection.checkpoint
    ADD COLUMN event_hash bytea  NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    ADD COLUMN serve_from bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN projection.checkpoint.event_hash IS 'the hash of the event at position';
COMMENT ON COLUMN projection.checkpoint.serve_from IS 'nothing is answered before this position';
UPDATE projection.checkpoint
   SET event_hash = coalesce(ledger.event_hash(partition, position), event_hash);
