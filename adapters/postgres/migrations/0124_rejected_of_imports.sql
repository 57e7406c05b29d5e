-- rejected: every import that brought an item, since one of them may be taken back while another stands.

ALTER TABLE rejected ADD COLUMN brought_by uuid[];
UPDATE rejected SET brought_by = ARRAY[import_id];
ALTER TABLE rejected ALTER COLUMN brought_by SET NOT NULL;
ALTER TABLE rejected DROP COLUMN import_id;

COMMENT ON COLUMN rejected.brought_by IS 'The imports that brought it, each once, in that order; null among them stands for another way, and for the time before this was kept.';
