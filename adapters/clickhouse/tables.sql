-- events: the plain columns of the log, one row for each way in which an event was known.
-- Sorted by type first: a funnel names few types and reads only those.
CREATE TABLE IF NOT EXISTS events (
    position    UInt64                 COMMENT 'The event: its place in the log',
    at_us       Int64                  COMMENT 'When it happened, in microseconds since 1970 UTC',
    recorded_us Int64                  COMMENT 'When the log took it, in microseconds since 1970 UTC',
    type        LowCardinality(String),
    channel     LowCardinality(String),
    direction   LowCardinality(String) COMMENT 'Empty: none',
    source      LowCardinality(String),
    source_id   String,
    owner       String                 COMMENT 'The first subject; reference:… of an event that names an order or case only; empty: nobody',
    known_from  UInt64                 COMMENT 'Position from which it was known so',
    properties  Map(LowCardinality(String), String) COMMENT 'Plain data by path (data.cart.id), each value as JSON',
    occurred_at DateTime64(6, 'UTC')   ALIAS fromUnixTimestamp64Micro(at_us, 'UTC'),
    recorded_at DateTime64(6, 'UTC')   ALIAS fromUnixTimestamp64Micro(recorded_us, 'UTC')
) ENGINE = MergeTree ORDER BY (type, owner, at_us)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Plain columns of the touchpoint log; no personal field is in them';

-- closed: rows that are no longer known so, because the event was corrected or taken back.
CREATE TABLE IF NOT EXISTS closed (
    position UInt64 COMMENT 'The event',
    known_to UInt64 COMMENT 'Position from which its row before is no longer known'
) ENGINE = MergeTree ORDER BY (position, known_to)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Corrections and retractions of events';

-- paths: the properties there are, and the kinds of their values.
CREATE TABLE IF NOT EXISTS paths (
    path LowCardinality(String),
    kind LowCardinality(String) COMMENT 'text, number, flag or list'
) ENGINE = ReplacingMergeTree ORDER BY (path, kind)
COMMENT 'Properties that some event has';

-- persons: whose an owner is at a moment; put there by the question that asks first.
CREATE TABLE IF NOT EXISTS persons (
    moment String COMMENT 'known_at and as_of',
    owner  String,
    person String,
    put_at DateTime DEFAULT now()
) ENGINE = MergeTree ORDER BY (moment, owner)
TTL put_at + INTERVAL 30 DAY
COMMENT 'The person of each subject that is not its person''s smallest, and of each order or case that is somebody''s';

-- moments: how many persons a moment has; with fewer it is not complete, and whoever asks puts them there anew.
CREATE TABLE IF NOT EXISTS moments (
    moment String,
    owners UInt64 COMMENT 'Rows of it in persons',
    put_at DateTime DEFAULT now()
) ENGINE = MergeTree ORDER BY moment
TTL put_at + INTERVAL 30 DAY
COMMENT 'Moments whose persons are there';

-- loaded: how far the log was loaded; the last thing that a batch writes.
CREATE TABLE IF NOT EXISTS loaded (
    position UInt64 COMMENT 'Everything up to here is in the tables, once',
    log_id   String COMMENT 'Of which log',
    at       DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = MergeTree ORDER BY position
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'Positions that batches of the loader reached';
