"""What happened between a company and its customers, and what it means.

Pure functions of values: no clock, no database, no network. This package knows the standard
library and `msgspec` (the type system), and nothing else of touchlog.

Rooms: `event` (how facts are declared and named), `touchpoints` (one file a family of facts), `entry` (the bytes that
the log keeps for ever), `personal` (what is sealed), `correction` (what an event is taken to have been), `identity` and
`resolution` (who is who), `profile` and `portrait` (what is known of somebody), `likeness` (likely duplicates),
`consent`, `funnels`, `retention`, `paths`, `segments` (what questions mean, each with a slow reference), `units`,
`errors` (the whole tree of what can be refused), `discovery` (a file is registered by being there).
"""
