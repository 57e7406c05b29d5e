-- Subjects: one random surrogate for one identifier, with its keys wrapped by a bucket key that
-- lives outside PostgreSQL. This table can be erased from; the log cannot.

CREATE TABLE subjects (
    subject    uuid     PRIMARY KEY,
    lookup     bytea    UNIQUE,
    kind       text     COLLATE "C" NOT NULL,
    namespace  text     COLLATE "C" NOT NULL DEFAULT '',
    rule       smallint NOT NULL,
    bucket_key bytea    NOT NULL,
    wrapped    bytea    NOT NULL,
    value      bytea
);

COMMENT ON TABLE  subjects            IS 'A subject stands for one identifier in the log: a random surrogate, its keys, its sealed value.';
COMMENT ON COLUMN subjects.lookup     IS 'HMAC-SHA-256, cut to 16 bytes, of kind, namespace and normalised value under the pepper of the key file; null once erased.';
COMMENT ON COLUMN subjects.rule       IS 'Version of the rule of normalisation that made it.';
COMMENT ON COLUMN subjects.bucket_key IS 'Id of the bucket key (in the key file) that wraps this subject''s keys.';
COMMENT ON COLUMN subjects.wrapped    IS 'Content key and evidence key, AES-256-GCM under the bucket key; nonce first.';
COMMENT ON COLUMN subjects.value      IS 'The normalised identifier, sealed under the content key; nonce first.';
