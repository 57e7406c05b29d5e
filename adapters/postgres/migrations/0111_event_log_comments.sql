-- read.event_log: what the columns are that had no comment.

COMMENT ON COLUMN read.event_log.event_id  IS 'The event''s id in the log, made from source and source id.';
COMMENT ON COLUMN read.event_log.type      IS 'Stored name of what happened, such as order.placed.';
COMMENT ON COLUMN read.event_log.source    IS 'Where the event comes from; with source_id its key.';
COMMENT ON COLUMN read.event_log.source_id IS 'The id that the source gave it.';
COMMENT ON COLUMN read.event_log.channel   IS 'Channel over which it happened, such as phone, email or web.';
COMMENT ON COLUMN read.event_log.direction IS 'inbound, outbound or internal; null: the source did not say.';
