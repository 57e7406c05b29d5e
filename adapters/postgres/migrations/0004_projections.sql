-- Projections: how far each read model has come. A row here and its rows in the read model change in
-- one transaction. A read model lives in schema `read`; one that is being rebuilt, or that shows an earlier
-- moment, lives in a schema of its own until it is swapped in or dropped.

CREATE TABLE projections (
    name        text        COLLATE "C" NOT NULL,
    schema      text        COLLATE "C" NOT NULL DEFAULT 'read',
    version     int         NOT NULL,
    state       text        NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'building', 'ready', 'moment', 'retired')),
    position    bigint      NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT '-infinity',
    epoch       bigint      NOT NULL DEFAULT 0,
    holder      text,
    leased_to   timestamptz NOT NULL DEFAULT '-infinity',
    moved_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    until       bigint,
    as_of       timestamptz,
    PRIMARY KEY (name, schema)
);

COMMENT ON TABLE  projections             IS 'Tracking position of every read model, compared and set in the transaction that changes its rows.';
COMMENT ON COLUMN projections.schema      IS 'Where its tables are: read, or a schema of its own while it is built or shows another moment.';
COMMENT ON COLUMN projections.state       IS 'live: answers; building: being rebuilt; ready: rebuilt, may be swapped in; moment: shows an earlier moment; retired: was live before a swap.';
COMMENT ON COLUMN projections.position    IS 'The last event whose rows are in the read model.';
COMMENT ON COLUMN projections.recorded_at IS 'recorded_at of that event.';
COMMENT ON COLUMN projections.epoch       IS 'Raised whenever a projector takes the lease; a projector of an earlier epoch can no longer write.';
COMMENT ON COLUMN projections.holder      IS 'The projector that holds the lease (process and start), for people to read.';
COMMENT ON COLUMN projections.until       IS 'The position at which a rebuild stops; null: the head.';
COMMENT ON COLUMN projections.as_of       IS 'Only what had happened by then; null: no cut.';

CREATE TABLE amendments (
    target   uuid   NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (target, position)
);

COMMENT ON TABLE  amendments          IS 'Which corrections speak of which event, and which retractions of which import; found while projecting.';
COMMENT ON COLUMN amendments.target   IS 'Event id, or import id of a retraction.';
COMMENT ON COLUMN amendments.position IS 'The correction or retraction.';

CREATE TABLE parked (
    name      text        COLLATE "C" NOT NULL,
    schema    text        COLLATE "C" NOT NULL,
    position  bigint      NOT NULL,
    subject   uuid,
    reason    text        NOT NULL,
    culprit   boolean     NOT NULL,
    retry     boolean     NOT NULL DEFAULT false,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, schema, position)
);

COMMENT ON TABLE  parked          IS 'Events that a projection could not fold, and the later ones of the same subject, in order.';
COMMENT ON COLUMN parked.culprit  IS 'true: its own fold failed; false: it waits behind one of its subject.';
COMMENT ON COLUMN parked.retry    IS 'Asked to be tried again; the projector that holds the lease does it.';
