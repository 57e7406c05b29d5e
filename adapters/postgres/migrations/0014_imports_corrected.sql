-- imports.corrected: how many conflicts of a run `touchlog ingest --correct` made corrections of.

ALTER TABLE imports ADD COLUMN corrected bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN imports.corrected IS 'Conflicts that became corrections (ingest --correct); the corrections themselves are no part of the import.';
