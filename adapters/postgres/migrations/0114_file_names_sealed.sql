-- imports, rejected: the name of a file can be a person's, so it is sealed as it is in import.started.
-- What was noted before stays as it is: only the key file could seal it.

ALTER TABLE imports ALTER COLUMN files SET DEFAULT '{}';
ALTER TABLE imports ADD COLUMN key_subject uuid;
ALTER TABLE imports ADD COLUMN sealed_files bytea;
ALTER TABLE rejected ADD COLUMN sealed_place bytea;

COMMENT ON COLUMN imports.files         IS 'Names of the files, without their folders, of imports from before they were sealed.';
COMMENT ON COLUMN imports.key_subject   IS 'The subject (of kind source_day) whose content key seals the names.';
COMMENT ON COLUMN imports.sealed_files  IS 'Names of the files, without their folders: a list in JSON, sealed; nonce first.';
COMMENT ON COLUMN rejected.place        IS 'Where it stood, of items from before that was sealed.';
COMMENT ON COLUMN rejected.sealed_place IS 'Where it stood: file and row, or place in the batch; sealed, nonce first.';
