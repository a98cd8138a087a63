-- The proof log: what has been hashed of the history, and what was signed about it.
--
-- Written once, by the follower of the committed positions, and never changed. Everything here but
-- the signatures can be made again from ledger.event.

CREATE OR REPLACE FUNCTION ledger.schema_version() RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT 3';

-- Full tiles of 256 hashes. Level 0 has the leaf hashes of the records at positions
-- number * 256 + 1 … number * 256 + 256; each hash of a level above is the root of a tile below.
CREATE TABLE ledger.tile (
    partition integer  NOT NULL,
    level     smallint NOT NULL,
    number    bigint   NOT NULL,
    root      bytea    NOT NULL,
    hashes    bytea    NOT NULL,
    CONSTRAINT tile_pkey PRIMARY KEY (partition, level, number),
    CONSTRAINT tile_level_check CHECK (level >= 0),
    CONSTRAINT tile_number_check CHECK (number >= 0),
    CONSTRAINT tile_hashes_check CHECK (octet_length(root) = 32 AND octet_length(hashes) = 8192)
);
-- Hashes do not compress, and out of line they are not in the way of whoever reads roots.
ALTER TABLE ledger.tile ALTER COLUMN hashes SET STORAGE EXTERNAL;
COMMENT ON COLUMN ledger.tile.root IS 'the root over the hashes, which stands in the tile above';

-- Signed checkpoints: notes of c2sp.org/tlog-checkpoint over the records up to a position.
CREATE TABLE ledger.checkpoint (
    partition integer NOT NULL,
    position  bigint  NOT NULL,
    note      text    NOT NULL,
    CONSTRAINT checkpoint_of_log_pkey PRIMARY KEY (partition, position),
    CONSTRAINT checkpoint_position_check CHECK (position > 0)
);

CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER tile_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.tile
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER checkpoint_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

GRANT SELECT, INSERT ON ledger.tile, ledger.checkpoint TO frikort_ledger;
GRANT SELECT ON ledger.tile, ledger.checkpoint TO frikort_auditor;

-- Whoever checks holds everything against everything.
GRANT SELECT ON ledger.tile, ledger.checkpoint TO frikort_projector;
GRANT SELECT ON ALL TABLES IN SCHEMA projection TO frikort_ledger;
