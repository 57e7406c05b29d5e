-- funnel_snapshots: where in the records log the answers of saved funnels stand.

CREATE TABLE funnel_snapshots (
    name     text        COLLATE "C" NOT NULL,
    number   int         NOT NULL,
    version  int         NOT NULL,
    at       timestamptz NOT NULL,
    known_at bigint      NOT NULL,
    due      boolean     NOT NULL,
    record   bigint      NOT NULL,
    PRIMARY KEY (name, number),
    UNIQUE (record)
);

COMMENT ON TABLE  funnel_snapshots          IS 'Answers of saved funnels as they were told, numbered by funnel; each stands in the records log.';
COMMENT ON COLUMN funnel_snapshots.version  IS 'Of the saved funnel.';
COMMENT ON COLUMN funnel_snapshots.at       IS 'The moment that it speaks of.';
COMMENT ON COLUMN funnel_snapshots.known_at IS 'Position of the touchpoint log that this moment resolved to.';
COMMENT ON COLUMN funnel_snapshots.due      IS 'True: taken by the schedule; false: by somebody.';
COMMENT ON COLUMN funnel_snapshots.record   IS 'Its position in the records log.';

GRANT SELECT, INSERT ON funnel_snapshots TO touchlog_app;
