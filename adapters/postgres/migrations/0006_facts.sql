-- Facts about this installation that no setting may contradict, e.g. which key file belongs to it.

CREATE TABLE facts (
    name  text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

COMMENT ON TABLE facts IS 'key_file: fingerprint of the key file whose keys wrap this database''s subjects.';
