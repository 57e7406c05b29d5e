-- rejected: the imports that brought an item, so that what a retry records of it goes with its import; every one of
-- them, since one may be taken back while another stands.

ALTER TABLE rejected ADD COLUMN brought_by uuid[] NOT NULL DEFAULT ARRAY[NULL]::uuid[];
ALTER TABLE rejected ALTER COLUMN brought_by DROP DEFAULT;

COMMENT ON COLUMN rejected.brought_by IS 'The imports that brought it, each once, in that order; null among them stands for another way, and for the time before this was kept.';
