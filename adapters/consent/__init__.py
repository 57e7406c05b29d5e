"""Consent: facts loaded, looks and verdicts, and the answers of routes and commands; its meaning is in `domain/consent`.

Rooms: `register` (facts of many persons, by the whole rule) and `plainly` (where a plainer look says the same) with
`noticed`; upon these `consents` (one person), `screening` (thousands of recipients), `standing`, `delays`. `judge`
gives verdicts on what went out, `touched` tells which, `ledger` and `breaches` what was said of them. `questions` are
the officer's twelve, `answers` their answers, with `holdings`, `receipts` and `exports`. `preferences` and
`unsubscribe` are for the person, by links of `sealed_tokens`.
"""
