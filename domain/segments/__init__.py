"""Segments: persons told apart by what they did and did not do, with the dates at which they came in and went out."""
