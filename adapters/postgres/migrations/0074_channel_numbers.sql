-- Channel numbers: how many of a source's own running numbers came, between its lowest and its highest.

CREATE TABLE channel_numbers (
    channel text   COLLATE "C" NOT NULL,
    name    text   COLLATE "C" NOT NULL,
    series  text   COLLATE "C" NOT NULL,
    lowest  bigint NOT NULL,
    highest bigint NOT NULL,
    seen    bigint NOT NULL,
    PRIMARY KEY (channel, name, series)
);

COMMENT ON TABLE  channel_numbers      IS 'A source''s own numbering: highest - lowest + 1 - seen numbers are missing.';
COMMENT ON COLUMN channel_numbers.seen IS 'Recorded events that carried a number; a duplicate is no second one.';

GRANT SELECT, INSERT, UPDATE, DELETE ON channel_numbers TO touchlog_app;
