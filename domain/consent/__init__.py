"""Consent: was it allowed, did the sender know, and by which facts (SEMANTICS §5).

Rooms: `facts` (what was stated, as known at a position: corrected, invalidated, confirmed), `opt_outs` with
`opt_out_words` (touchpoints that are withdrawals), `kinship` (which subjects are one person, and whom a restriction
binds after a split), `validity` (one look: may this be sent, by which word), `plain` (the same for thousands, where
nothing is intricate), `verdicts` (a message looked at three times), `rejudging` (when it is judged, and again),
`policies` (law as dated data), `business_days` and `quiet_hours` (what the policies count in), `purposes` (the
catalogue).
"""
