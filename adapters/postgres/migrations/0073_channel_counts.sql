-- Channel counts: what came through each channel, by day; written every second by each process that takes deliveries.

CREATE TABLE channel_counts (
    channel    text        COLLATE "C" NOT NULL,
    name       text        COLLATE "C" NOT NULL,
    day        date        NOT NULL,
    deliveries bigint      NOT NULL DEFAULT 0,
    recorded   bigint      NOT NULL DEFAULT 0,
    duplicates bigint      NOT NULL DEFAULT 0,
    conflicts  bigint      NOT NULL DEFAULT 0,
    rejected   bigint      NOT NULL DEFAULT 0,
    lag_sum_s  double precision NOT NULL DEFAULT 0,
    lag_max_s  double precision NOT NULL DEFAULT 0,
    last_at    timestamptz NOT NULL,
    PRIMARY KEY (channel, name, day)
);

COMMENT ON TABLE  channel_counts           IS 'What came through each channel and endpoint (or key), by day in UTC.';
COMMENT ON COLUMN channel_counts.lag_sum_s IS 'Sum over recorded events of the time from occurred_at to receipt; its mean is this by recorded.';
COMMENT ON COLUMN channel_counts.last_at   IS 'Receipt of the newest delivery.';

GRANT SELECT, INSERT, UPDATE, DELETE ON channel_counts TO touchlog_app;
