-- Endpoint secrets: sealed under a key whose bucket key lives outside the database.

CREATE TABLE endpoint_secrets (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel     text        COLLATE "C" NOT NULL,
    name        text        COLLATE "C" NOT NULL,
    key_subject uuid        NOT NULL,
    secret      bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    valid_until timestamptz,
    FOREIGN KEY (channel, name) REFERENCES endpoints ON DELETE CASCADE
);

COMMENT ON TABLE  endpoint_secrets             IS 'What the deliveries of an endpoint are signed with; sealed, nonce first.';
COMMENT ON COLUMN endpoint_secrets.valid_until IS 'Until when it is still taken beside the one that replaced it; null: in force.';

GRANT SELECT, INSERT, UPDATE, DELETE ON endpoint_secrets TO touchlog_app;
