-- Imports: each run of `touchlog ingest`, so that its events can be counted and later retracted as one.

CREATE TABLE imports (
    import_id   uuid        PRIMARY KEY,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    principal   text        NOT NULL,
    format      text        NOT NULL,
    files       text[]      NOT NULL,
    recorded    bigint      NOT NULL DEFAULT 0,
    duplicates  bigint      NOT NULL DEFAULT 0,
    conflicts   bigint      NOT NULL DEFAULT 0,
    rejected    bigint      NOT NULL DEFAULT 0
);

COMMENT ON TABLE  imports       IS 'Runs of `touchlog ingest` with their counts.';
COMMENT ON COLUMN imports.files IS 'Names of the files, without their folders.';
