"""What happened between a company and its customers, and what it means.

Pure functions of values: no clock, no database, no network. This package knows the standard
library and `msgspec` (the type system), and nothing else of touchlog.

Rooms: `event` (how facts are declared and named), `touchpoints/` (one file a family of facts),
`entry` (the bytes that the log keeps for ever), `identity` (who is who), `personal` (what is
sealed), `properties` (undeclared values), `errors` (the whole tree of what can be refused).
"""
