-- API keys: who may append and who may ask. The key itself is never stored.

CREATE TABLE api_keys (
    key_id     text        COLLATE "C" PRIMARY KEY,
    role       text        NOT NULL CHECK (role IN ('adapter', 'agent', 'analyst', 'officer', 'admin')),
    sources    text[]      COLLATE "C" NOT NULL DEFAULT '{}',
    name       text        NOT NULL DEFAULT '',
    secret     bytea       NOT NULL,
    bcrypt     text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz
);

COMMENT ON TABLE  api_keys         IS 'Keys by which programs and people sign in.';
COMMENT ON COLUMN api_keys.sources IS 'Of an adapter: the sources it may append from; one that ends in * stands for all that begin so.';
COMMENT ON COLUMN api_keys.secret  IS 'SHA-256 of the key (which is 256 random bits, so that no slow hash is needed).';
COMMENT ON COLUMN api_keys.bcrypt  IS 'bcrypt of the key, for nats-server''s list of users.';
