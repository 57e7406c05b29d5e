-- projections: a read model lives in schema `read`; one that is being rebuilt, or that shows an earlier
-- moment, lives in a schema of its own until it is swapped in or dropped.

ALTER TABLE projections
    ADD COLUMN schema     text        COLLATE "C" NOT NULL DEFAULT 'read',
    ADD COLUMN started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN until      bigint,
    ADD COLUMN as_of      timestamptz,
    DROP CONSTRAINT projections_state_check,
    ADD  CONSTRAINT projections_state_check CHECK (state IN ('live', 'building', 'ready', 'moment', 'retired'));

-- Of one name one version answers: the newest.
DELETE FROM projections p USING projections q WHERE q.name = p.name AND q.version > p.version;

ALTER TABLE projections
    DROP CONSTRAINT projections_pkey,
    ADD  CONSTRAINT projections_pkey PRIMARY KEY (name, schema);

COMMENT ON COLUMN projections.schema IS 'Where its tables are: read, or a schema of its own while it is built or shows another moment.';
COMMENT ON COLUMN projections.state  IS 'live: answers; building: being rebuilt; ready: rebuilt, may be swapped in; moment: shows an earlier moment; retired: was live before a swap.';
COMMENT ON COLUMN projections.until  IS 'The position at which a rebuild stops; null: the head.';
COMMENT ON COLUMN projections.as_of  IS 'Only what had happened by then; null: no cut.';
