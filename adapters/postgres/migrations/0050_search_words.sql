-- Search words: of what was said of a subject's name, address, birth date, e-mail and phone, keyed tokens only, so
-- that somebody is found by name and likely duplicates by what they share. Made again from the profiles at any time.

CREATE TABLE search_words (
    subject  uuid     PRIMARY KEY,
    names    bigint[] NOT NULL,
    sounds   bigint[] NOT NULL,
    places   bigint[] NOT NULL,
    births   bigint[] NOT NULL,
    contacts bytea[]  NOT NULL
);
CREATE INDEX search_words_names ON search_words USING gin (names);

COMMENT ON TABLE  search_words          IS 'Keyed tokens of what a subject''s profile says; no value, and none that can be computed without the key file. To be erased with the subject.';
COMMENT ON COLUMN search_words.names    IS 'Of each word of a name: the word, its first three and its first five letters; HMAC-SHA-256 under the pepper, cut to 8 bytes.';
COMMENT ON COLUMN search_words.sounds   IS 'How each word of a name sounds, in the same form.';
COMMENT ON COLUMN search_words.places   IS 'Postcode; city with house number; in the same form.';
COMMENT ON COLUMN search_words.births   IS 'Birth date, in the same form.';
COMMENT ON COLUMN search_words.contacts IS 'E-mail addresses and phone numbers, as subjects.lookup would have them.';
