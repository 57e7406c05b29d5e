-- rebuilds: each rebuild of a read model as a thing: asked for at the command line, over HTTP or by a deploy,
-- run by one process, told to everybody. While it runs its process holds the advisory lock (7021905, id): a
-- row that runs while nobody holds the lock was cut off.

CREATE TABLE rebuilds (
    id            int         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text        COLLATE "C" NOT NULL,
    schema        text        COLLATE "C" NOT NULL,
    state         text        NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'running', 'done', 'failed')),
    known_at      bigint,
    as_of         timestamptz,
    compare       boolean     NOT NULL,
    swap          boolean     NOT NULL,
    goes_on       boolean     NOT NULL,
    asked_by      text        NOT NULL,
    asked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at    timestamptz,
    from_position bigint      NOT NULL DEFAULT 0,
    ended_at      timestamptz,
    outcome       jsonb,
    reason        text
);

CREATE UNIQUE INDEX rebuilds_underway ON rebuilds (name) WHERE state IN ('asked', 'running');

COMMENT ON TABLE  rebuilds               IS 'Rebuilds of read models: one of a name at a time.';
COMMENT ON COLUMN rebuilds.goes_on       IS 'true: the projectors part runs it, and goes on with it where it was cut off; false: the command that asked for it runs it.';
COMMENT ON COLUMN rebuilds.from_position IS 'Where it stood when it was last started: rate and remaining time are told from there.';
COMMENT ON COLUMN rebuilds.outcome       IS 'What came of it, as `touchlog rebuild --json` prints it.';
COMMENT ON COLUMN rebuilds.reason        IS 'Why it failed, and what to do.';

GRANT SELECT, INSERT, UPDATE, DELETE ON rebuilds TO touchlog_app;

-- A version may have other tables than the one before it; a swap sets aside those that the old one had.
ALTER TABLE projections ADD COLUMN tables text[];
COMMENT ON COLUMN projections.tables IS 'Names of its tables; null: it was made before this was kept.';
