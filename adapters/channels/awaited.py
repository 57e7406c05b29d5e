"""Vendors whose deliveries are verified and kept whole, until their translation is here.

Each delivery is sealed among the rejected with that reason; once an update brings the vendor's channel,
`touchlog rejected retry --all` records them, by their own keys and times.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapters.channels.channel import Channel, Delivery, Found, Untranslated, register
from domain.errors import Problem

__all__ = ["AWAITED"]

AWAITED = {
    "mailersend": "MailerSend",
}


def _kept(_delivery: Delivery) -> Iterator[Found]:
    yield Untranslated(
        "",
        [
            Problem(
                "",
                "The delivery is signed; this version of touchlog does not translate this vendor yet. It is kept whole: retry it after an update.",
                "no_translation",
            )
        ],
    )


for _name, _vendor in AWAITED.items():
    register(
        Channel(
            name=_name,
            meaning=f"{_vendor}: verified and kept until it can be translated",
            translate=_kept,
            scheme=_name,
        )
    )
