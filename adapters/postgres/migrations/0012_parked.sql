-- parked: what a projection could not fold, kept in order until it is tried again.

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

COMMENT ON TABLE  parked         IS 'Events that a projection could not fold, and the later ones of the same subject, in order.';
COMMENT ON COLUMN parked.culprit IS 'true: its own fold failed; false: it waits behind one of its subject.';
COMMENT ON COLUMN parked.retry   IS 'Asked to be tried again; the projector that holds the lease does it.';

GRANT SELECT, INSERT, UPDATE, DELETE ON parked TO touchlog_app;
