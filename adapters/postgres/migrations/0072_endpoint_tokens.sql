-- Endpoint tokens: what a signature that does not cover its body may be used for, once.

CREATE TABLE endpoint_tokens (
    token   bytea       PRIMARY KEY,
    body    bytea       NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX endpoint_tokens_seen ON endpoint_tokens (seen_at);

COMMENT ON TABLE  endpoint_tokens       IS 'Tokens of signatures that do not cover the body (Mailgun): each is good for the body it came with first.';
COMMENT ON COLUMN endpoint_tokens.token IS 'Keyed hash of endpoint and token.';
COMMENT ON COLUMN endpoint_tokens.body  IS 'Keyed hash of the body.';

GRANT SELECT, INSERT, UPDATE, DELETE ON endpoint_tokens TO touchlog_app;
