"""The intake: from a payload, as somebody sent it, to items that the log takes.

Rooms: `bodies` (a request's body to payloads), `payloads` (bytes to an object), `attributes`, `cloudevents` and `named`
(an object to a checked draft, and whom it names), `sealing` (a draft to an item of the log), `ingest` (all of it, an
answer per item), `batches` (many, through a short outage). `outlines`, `spellings` and `frames` are its short ways, for
events that look or are written like one before; they give the same bytes. The commands that record events stand here
too: `import_runs`, `correcting`, `identity_changes`.
"""
