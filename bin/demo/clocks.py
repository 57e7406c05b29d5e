"""When things happen: by hour, by season; and how visitors come to the shop."""

from __future__ import annotations

from itertools import accumulate

from bin.demo.catalogue import Data

# How visitors come to the first page: by themselves, searching, from a friend, a mail, an advertisement.
ARRIVALS: list[Data] = [
    {},
    {"referrer": "https://search.example/"},
    {"referrer": "https://social.example/", "utm_source": "social", "utm_medium": "post"},
    {"utm_source": "newsletter", "utm_medium": "email"},
    {"utm_source": "search", "utm_medium": "cpc", "utm_campaign": "brand"},
]

# Chances by hour of the day, 0 to 23.
HOURS = {
    "web": "2 1 1 0 0 1 3 5 7 8 8 9 10 9 8 8 8 9 11 14 17 17 12 6",
    "shop": "0 0 0 0 0 0 0 0 0 6 10 13 14 12 11 11 12 13 9 4 0 0 0 0",
    "desk": "0 0 0 0 0 0 0 0 8 14 15 13 9 10 12 11 9 5 0 0 0 0 0 0",
}
CLOCKS = {name: list(accumulate(map(int, chances.split()))) for name, chances in HOURS.items()}
SEASON = [1.1, 0.8, 0.85, 0.9, 0.95, 0.9, 0.8, 0.75, 0.95, 1.05, 1.6, 1.7]  # January to December
