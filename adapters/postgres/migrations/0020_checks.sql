-- checks: how far the continuous comparison of the log with each read model has come, and what it found.

CREATE TABLE checks (
    name              text        COLLATE "C" PRIMARY KEY,
    build             timestamptz NOT NULL,
    fold              text        NOT NULL,
    position          bigint      NOT NULL DEFAULT 0,
    checked_at        timestamptz,
    swept_position    bigint,
    swept_at          timestamptz,
    sums_position     bigint      NOT NULL DEFAULT 0,
    sums              bytea,
    new_sums_position bigint      NOT NULL DEFAULT 0,
    new_sums          bytea
);

COMMENT ON TABLE  checks                   IS 'How far each read model was compared with the log.';
COMMENT ON COLUMN checks.build             IS 'started_at of the read model that was compared; another build is compared from the start.';
COMMENT ON COLUMN checks.fold              IS 'Digest of the fold that gave the sums; those of another fold are not gone on with.';
COMMENT ON COLUMN checks.position          IS 'The position up to which its newest rows were compared last.';
COMMENT ON COLUMN checks.checked_at        IS 'When that was.';
COMMENT ON COLUMN checks.swept_position    IS 'The position up to which the whole was compared last.';
COMMENT ON COLUMN checks.swept_at          IS 'When that ended.';
COMMENT ON COLUMN checks.sums_position     IS 'Of sums by key: the position up to which their hash by bucket is carried along with the log.';
COMMENT ON COLUMN checks.sums              IS 'Of sums by key: hash by bucket as the log gives it at that position.';
COMMENT ON COLUMN checks.new_sums_position IS 'The same for the sweep that is going on, which begins at position 0.';
COMMENT ON COLUMN checks.new_sums          IS 'Hash by bucket of the sweep that is going on.';

CREATE TABLE sweep (
    singleton  boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    stage      text        NOT NULL DEFAULT 'positions',
    position   bigint      NOT NULL DEFAULT 0,
    mark       text        NOT NULL DEFAULT ''
);

COMMENT ON TABLE  sweep            IS 'The sweep over the whole: one row, so that a restart goes on where it was.';
COMMENT ON COLUMN sweep.ended_at   IS 'When it ended; null while it goes on.';
COMMENT ON COLUMN sweep.stage      IS 'positions, or the projection whose keys are gone through.';
COMMENT ON COLUMN sweep.position   IS 'The position up to which it has come.';
COMMENT ON COLUMN sweep.mark       IS 'The key up to which it has come.';

CREATE TABLE differences (
    name       text        COLLATE "C" NOT NULL,
    table_name text        COLLATE "C" NOT NULL,
    bucket     text        COLLATE "C" NOT NULL,
    rows       bigint      NOT NULL,
    examples   jsonb       NOT NULL,
    found_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, table_name, bucket)
);

COMMENT ON TABLE  differences            IS 'Rows of read models that are not those that follow from the log; gone when a later check finds them right.';
COMMENT ON COLUMN differences.bucket     IS 'What was compared: a range of positions, a key, a subject, or a bucket of keys.';
COMMENT ON COLUMN differences.rows       IS 'How many rows of it differ.';
COMMENT ON COLUMN differences.examples   IS 'Up to 20 of them: missing, extra or changed, key, names of the columns that differ; no values.';
COMMENT ON COLUMN differences.found_at   IS 'When the bucket was first found to differ.';
COMMENT ON COLUMN differences.seen_at    IS 'When it last was.';

GRANT SELECT, INSERT, UPDATE, DELETE ON checks, sweep, differences TO touchlog_app;
