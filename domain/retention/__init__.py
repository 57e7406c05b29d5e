"""Retention: of those who did one thing, how many did another again, interval after interval.

`question` is a retention as understood and says what each option means, `reading` makes one of what somebody wrote,
`reference` answers slowly and obviously, `answer` is how it is told. The fast answer is given over columns in
adapters/columns; tests hold it against the reference. Filters, units and properties are those of funnels.
"""
