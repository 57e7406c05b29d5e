-- Projections: how far each read model has come. A row and its rows in `read` change in one transaction.

CREATE TABLE projections (
    name        text        COLLATE "C" NOT NULL,
    version     int         NOT NULL,
    state       text        NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'building', 'retired')),
    position    bigint      NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT '-infinity',
    epoch       bigint      NOT NULL DEFAULT 0,
    holder      text,
    leased_to   timestamptz NOT NULL DEFAULT '-infinity',
    moved_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);

COMMENT ON TABLE  projections             IS 'Tracking position of every read model, compared and set in the transaction that changes its rows.';
COMMENT ON COLUMN projections.position    IS 'The last event whose rows are in the read model.';
COMMENT ON COLUMN projections.recorded_at IS 'recorded_at of that event.';
COMMENT ON COLUMN projections.epoch       IS 'Raised whenever a projector takes the lease; a projector of an earlier epoch can no longer write.';
COMMENT ON COLUMN projections.holder      IS 'The projector that holds the lease (process and start), for people to read.';
