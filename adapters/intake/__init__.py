"""The intake: from a payload, as somebody sent it, to items that the log takes.

Rooms: `payloads` (bytes to an object), `attributes`, `cloudevents` and `named` (an object to a checked draft, and whom
it names), `sealing` (a draft to an item of the log), `ingest` (all of it, an answer per item). `outlines`, `spellings`
and `frames` are its short ways, for events that look or are written like one before; they give the same bytes.
`deliveries` (what a channel makes of a request) and `mending` (what was kept, tried again) come in the same way; so do
the commands that record events: `import_runs`, `correcting`, `identity_changes`.
"""
