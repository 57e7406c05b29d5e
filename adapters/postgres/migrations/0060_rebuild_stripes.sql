-- rebuild_stripes: a rebuild whose rows follow from single events folds stripes of the log side by side. The tracking
-- position tells how far there is no gap; here stands what is folded beyond it, and which rows of other stripes the
-- corrections and retractions of a stripe close. Both are empty once all stripes are folded.

CREATE TABLE rebuild_stripes (
    name   text   COLLATE "C" NOT NULL,
    schema text   COLLATE "C" NOT NULL,
    after  bigint NOT NULL,
    until  bigint NOT NULL,
    PRIMARY KEY (name, schema, after)
);

COMMENT ON TABLE  rebuild_stripes       IS 'Stripes of the log whose rows are in a read model that is being rebuilt, beyond its tracking position.';
COMMENT ON COLUMN rebuild_stripes.after IS 'The stripe holds the positions behind this one,';
COMMENT ON COLUMN rebuild_stripes.until IS 'up to and with this one.';

CREATE TABLE rebuild_closes (
    name       text   COLLATE "C" NOT NULL,
    schema     text   COLLATE "C" NOT NULL,
    table_name text   COLLATE "C" NOT NULL,
    position   bigint NOT NULL,
    known_to   bigint NOT NULL,
    PRIMARY KEY (name, schema, table_name, position, known_to)
);

COMMENT ON TABLE  rebuild_closes          IS 'Rows of a read model that is being rebuilt which are still to be closed: their events were corrected or taken back.';
COMMENT ON COLUMN rebuild_closes.position IS 'The event whose rows are closed';
COMMENT ON COLUMN rebuild_closes.known_to IS 'by the correction or retraction at this position.';

GRANT SELECT, INSERT, UPDATE, DELETE ON rebuild_stripes, rebuild_closes TO touchlog_app;
