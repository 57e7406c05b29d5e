"""Consent asked: facts loaded for many persons at once, and the answers of routes and commands."""
