"""One file a family of facts; a file is registered by being there.

To add a type: declare a class with `@event("family.happened", channel=…)` in the family's file.
Nothing else is edited: ingest validates it, the log stores it, the contact history shows its
headline, `/v1/types` publishes its schema. Field names and units are for ever; money is
`amount_minor` (integer minor units) with `currency` (ISO 4217), spans are `*_s`, times are `Instant`.
"""

from domain.discovery import load_siblings

load_siblings(__name__, list(__path__))
