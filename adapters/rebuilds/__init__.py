"""Rebuilds: a read model made anew from the log, beside the one that answers.

Rooms: `rebuild` (build, compare, swap), `runs` (asked for, run by one process, told to everybody), `stripes` (the log
dealt to all processors) and `stripe` (a process that folds them).
"""
