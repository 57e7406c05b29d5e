"""Funnels: which units went through given steps in a given time, and when (SEMANTICS §4).

`question` is a funnel as understood, `reading` makes one of what somebody wrote, `property` tells what
filters see of an event, `reference` answers slowly and obviously, `times` summarises spans between steps, `naming` tells what steps are called. The
fast answer is given over columns in adapters/columns; tests hold it against the reference.
"""
