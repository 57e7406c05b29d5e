"""Opt-outs that come as touchpoints: an unsubscription, a complaint, STOP; each is a withdrawal (SEMANTICS §5).

The touchpoint itself is the fact: same event, same position, effective when it reached us. Whatever channel
brought it, the rule is here. What a message means is decided once, when it is recorded, for its text is sealed
afterwards; the decision stands in the event as extension `touchlogoptout`, with the version of the words it was made by.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import msgspec

from domain.consent.opt_out_words import (
    EVERYWHERE,
    KEYWORDS,
    NEGATIONS,
    NOT_BY_MAIL,
    PHRASES,
    POLITE,
    VERSION,
)
from domain.consent.purposes import catalogue

__all__ = [
    "CONTACT_KINDS",
    "EXTENSION",
    "MAY_OPT_OUT",
    "WORDED",
    "OptOut",
    "Understood",
    "may_say_no",
    "opt_out",
    "understood",
    "words_of",
]

EXTENSION = "touchlogoptout"

_BY_TYPE = {"email.unsubscribed": "unsubscribed", "email.complained": "spam_complaint"}
"""Touchpoints that are opt-outs whatever they hold, and by which means."""
WORDED = frozenset(("sms.received", "message.received", "email.received"))
"""Touchpoints whose text may be one."""
_CALLS = frozenset(("call.ended", "call.missed"))
_OUTCOMES = frozenset(("do_not_call", "do_not_contact", "opted_out"))
"""What an agent or a dialler writes down when the person asked not to be called again."""
_OUTCOME_BYTES = tuple(word.encode() for word in _OUTCOMES)

MAY_OPT_OUT = frozenset(_BY_TYPE) | WORDED | _CALLS
"""Types of which a fact about consent may follow."""

_MOST_WORDS = 40
"""A longer message is a letter: its phrases speak of something else as often as not."""

CONTACT_KINDS: Mapping[str, tuple[str, ...]] = {
    "email": ("email",),
    "sms": ("phone",),
    "phone": ("phone",),
    "whatsapp": ("whatsapp", "phone"),
    "message": ("whatsapp", "phone"),
}
"""The kinds of identifier by which a channel reaches somebody."""


class Understood(msgspec.Struct, frozen=True):
    """What a message was understood to say.

    Attributes:
        reach: whether it ends the channel that it came on, or all of them.
        words: which of our words it holds; never its own text.
    """

    reach: Literal["channel", "everywhere"]
    kind: Literal["keyword", "phrase", "carrier"]
    language: str
    words: str

    def __str__(self) -> str:
        """Write it as the value of the extension."""
        return " ".join((self.reach, self.kind, self.language, self.words.replace(" ", "_"), VERSION))


class OptOut(msgspec.Struct, frozen=True, gc=False):
    """The withdrawal that follows from a touchpoint.

    Attributes:
        contact: the surrogate of the contact point that it binds; None: all of the person's.
        purpose, channel: `*` is all.
    """

    contact: str | None
    purpose: str
    channel: str
    method: str


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared: no case, no accents, no signs; letters set apart are one word."""
    text = unicodedata.normalize("NFKD", text.casefold())
    text = "".join(c for c in text if not unicodedata.combining(c) and c not in "'’`").replace("ı", "i")
    found = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text))
    if len(found) > 2 and all(len(word) == 1 for word in found):
        return ["".join(found)]
    return found


@cache
def _keywords() -> dict[tuple[str, ...], tuple[str, str]]:
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for language, keywords in KEYWORDS.items():
        for keyword in keywords:
            found.setdefault(tuple(words_of(keyword)), (language, " ".join(words_of(keyword))))
    return found


@cache
def _phrases() -> list[tuple[tuple[str, ...], str]]:
    return [(tuple(words_of(phrase)), language) for language, many in PHRASES.items() for phrase in many]


@cache
def _polite() -> frozenset[str]:
    return frozenset(word for given in POLITE for word in words_of(given))


def understood(type_: str, data: Mapping[str, Any]) -> Understood | None:
    """What a message that came in says about being written to; None where it says nothing of it.

    Args:
        data: the data of the event, in plain text.
    """
    if type_ not in WORDED:
        return None
    carrier = data.get("opt_out_type")  # Twilio and others tell what they have acted on already
    if isinstance(carrier, str) and carrier.strip().upper() == "STOP":
        return Understood("channel", "carrier", "und", "stop")
    by_mail = type_ == "email.received"
    texts = [data.get("body"), data.get("subject")] if by_mail else [data.get("text")]
    for text in texts:
        if isinstance(text, str) and text.strip():
            found = _said(_own_words(text) if by_mail else text, by_mail=by_mail)
            if found is not None:
                return found
    return None


def _said(text: str, *, by_mail: bool) -> Understood | None:
    if len(text) > 2000:
        return None
    words = words_of(text)
    if not words or len(words) > _MOST_WORDS:
        return None
    plain = [word for word in words if word not in _polite()]
    for said in (words, plain, list(dict.fromkeys(plain))):  # "STOP STOP STOP" says it once
        found = _keywords().get(tuple(said))
        if found is not None and not (by_mail and found[1] in NOT_BY_MAIL):
            language, keyword = found
            return Understood(
                "everywhere" if keyword in EVERYWHERE else "channel", "keyword", language, keyword
            )
    for phrase, language in _phrases():
        for place in _places(words, phrase):
            if place == 0 or words[place - 1] not in NEGATIONS:
                return Understood("channel", "phrase", language, " ".join(phrase))
    return None


def _places(words: Sequence[str], phrase: tuple[str, ...]) -> Iterator[int]:
    length = len(phrase)
    for place in range(len(words) - length + 1):
        if tuple(words[place : place + length]) == phrase:
            yield place


_QUOTED = re.compile(
    r"^\s*(>|-{2,}\s*(original message|ursprüngliche nachricht|message d'origine|mensaje original)|_{5,}\s*$"
    r"|(on|am|le|el|il|op|em)\b.{5,200}(wrote|schrieb|écrit|escribió|ha scritto|schreef|escreveu)\b.*:?\s*$"
    r"|(from|von|de|da|van)\s*:\s)",
    re.IGNORECASE,
)
_SIGNED = re.compile(r"^\s*(--\s*$|sent from my |von meinem .{2,40} gesendet|envoyé de mon )", re.IGNORECASE)


def _own_words(text: str) -> str:
    """What the writer of a mail added: nothing quoted, no signature, no `Re:`."""
    lines = []
    for line in text[:4000].splitlines():
        if _QUOTED.match(line) or _SIGNED.match(line):
            break
        lines.append(line)
    return re.sub(
        r"^\s*((re|aw|fwd?|antw|sv|tr|rv)\s*:\s*)+", "", "\n".join(lines).strip(), flags=re.IGNORECASE
    )


def may_say_no(type_: str, plain: bytes | msgspec.Raw) -> bool:
    """Whether plain data, canonical JSON as entries hold it, is worth a look: that of a call whose outcome is none of the words is not.

    Canonical JSON escapes no letter, so a word that is not among its bytes is in none of its texts.
    """
    if type_ not in _CALLS:
        return True
    written = bytes(plain)
    for word in _OUTCOME_BYTES:  # noqa: SIM110 - asked of every call: `any` costs as much again
        if written.find(word) >= 0:
            return True
    return False


def opt_out(
    type_: str,
    channel: str,
    data: Mapping[str, Any],
    extensions: Mapping[str, str | int],
    contact: str | None,
    subjects: Sequence[tuple[str, str, str]],
) -> OptOut | None:
    """The withdrawal that follows from a touchpoint, by what of it is plain; None where none does.

    Args:
        contact: the surrogate of the contact point that it names.
        subjects: (surrogate, kind, namespace) of whom it names.
    """
    said = extensions.get(EXTENSION)
    if type_ in _BY_TYPE:
        method = str(data.get("method") or _BY_TYPE[type_])
        where = "email"
    elif isinstance(said, str) and said.count(" ") == 4:
        reach, kind, _language, words, _version = said.split(" ")
        method = f"{kind}:{words}"
        where = "*" if reach == "everywhere" else channel
        if where == "message" and isinstance(data.get("service"), str):
            where = data["service"]
    elif type_ in _CALLS and data.get("outcome") in _OUTCOMES:
        method, where = "call", channel
    else:
        return None
    purpose = extensions.get("purpose")
    if not isinstance(purpose, str) or not purpose:
        left = data.get("list_id")
        purpose = left if isinstance(left, str) and left in catalogue() else "*"
    return OptOut(contact or _point(channel, subjects), purpose, where, method)


def _point(channel: str, subjects: Sequence[tuple[str, str, str]]) -> str | None:
    """The one contact point of the channel among the subjects; with several, or none, the person is meant."""
    kinds = CONTACT_KINDS.get(channel, ())
    found = [surrogate for surrogate, kind, _ in subjects if kind in kinds]
    return found[0] if len(found) == 1 else None
