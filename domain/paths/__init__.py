"""Paths: what people do next, and what they did before, around an event."""
