"""Soaks: long trials of what must never happen, against real processes; `bin/soak` runs them, tests run them short."""
