-- Endpoints: where vendors deliver to; their secrets are sealed, several at once while one replaces another.

CREATE TABLE endpoints (
    channel     text        COLLATE "C" NOT NULL,
    name        text        COLLATE "C" NOT NULL,
    scheme      text        NOT NULL,
    source      text        COLLATE "C" NOT NULL,
    url         text        NOT NULL DEFAULT '',
    tolerance_s double precision,
    settings    jsonb       NOT NULL DEFAULT '{}',
    paused_at   timestamptz,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel, name)
);

COMMENT ON TABLE  endpoints             IS 'Where vendors deliver webhooks to: POST /hooks/{channel}/{name}.';
COMMENT ON COLUMN endpoints.scheme      IS 'How deliveries are signed, see touchlog endpoints schemes.';
COMMENT ON COLUMN endpoints.source      IS 'The source of the events that come out of its deliveries.';
COMMENT ON COLUMN endpoints.url         IS 'Its address as the vendor knows it, where that is signed; empty: by the public URL and the request.';
COMMENT ON COLUMN endpoints.tolerance_s IS 'How far the time of signing may be from now, instead of the scheme''s.';
COMMENT ON COLUMN endpoints.paused_at   IS 'Since when its deliveries are answered 503, so that the vendor tries again later.';

GRANT SELECT, INSERT, UPDATE, DELETE ON endpoints TO touchlog_app;
