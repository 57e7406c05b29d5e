-- parked: a retraction touches events of many subjects at one position, and each of them may wait by itself.

ALTER TABLE parked DROP CONSTRAINT parked_pkey;
ALTER TABLE parked ADD CONSTRAINT parked_once UNIQUE NULLS NOT DISTINCT (name, schema, position, subject);
