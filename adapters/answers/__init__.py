"""Answers: what people ask of persons and of the log, at one moment of both axes; nothing here records an event.

Rooms: `moments` (what `known_at` means, how far the read models are), `resolution`, `identities` and `members` (who is
who), `entries`, `unsealing` and `cursors` (how an answer is opened, worded, paged); upon these `history`, `profiles`,
`persons`, `finding` with its `search_index`, `duplicates`, `identity_why`, `conversations`, `audit_trail`, `volumes`
and `feed`.
"""
