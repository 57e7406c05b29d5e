"""HTTP: the API and the pages.

Rooms: `app` (everything put together), `house` (what the rooms need of the world), `auth` and `signing_in` (keys and
browsers), `problems` (every error as RFC 9457), `reading` (both axes of time, waiting), `figures` (what is counted).

The ways in, thin routes in front of the framework: `door` (what they share), `events`, `segment`, `hooks`.

Asked by programs: `feed`, `persons`, `identity`, `duplicates`, `conversations`, `volumes`, `trail`, `types`, `channels`,
`funnels`, `retention`, `segments` (paths too), `consent`, `consent_questions`, `consent_exports`, `verdicts`,
`rebuilds`, `operations` (health, readiness, metrics, projections); `docs` and `explained` tell the API itself.

Seen by people: `browser` (all pages), `rendering`, `drawing`, `overview`, `person_pages`, `identity_pages`,
`channel_pages`; templates and style in `pages/`; and what a stranger may open, `open_pages`, `unsubscribe`,
`preferences`.
"""
