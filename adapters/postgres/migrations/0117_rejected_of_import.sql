-- rejected: the import that brought an item, so that what a retry records of it goes with its import.

ALTER TABLE rejected ADD COLUMN import_id uuid;

COMMENT ON COLUMN rejected.import_id IS 'The import that brought it, the last of several; null for what came by another way, and from before this was kept.';
