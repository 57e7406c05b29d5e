"""HTTP: the API and the pages.

Rooms: `app` (everything put together), `core` (what the rooms need of the world), `auth` (keys, sign-in),
`problems` (every error as RFC 9457), `events` (the way in, a route of its own for speed), `feed` (the log,
resumable), `persons` (who, and their history), `types` (what is declared), `operations` (health,
readiness, metrics, projections), `pages` (what a browser sees), `docs` (the API explained).
"""
