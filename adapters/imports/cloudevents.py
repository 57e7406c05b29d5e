"""CloudEvents in files: JSON lines, one array, or objects one behind the other."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from adapters.imports.format import Format, Options, Rejection, Row, Rows, register
from adapters.imports.source_file import LONGEST_LINE, SourceFile
from adapters.intake.payloads import event_of, read_payload
from domain.errors import Invalid, Problem, Refused

__all__ = ["JsonItem", "json_items", "read"]

_BLANK = b" \t\r\n"
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|["{}\[\],]', re.DOTALL)
LARGEST_ITEM_BYTES = 16 << 20


class JsonItem(NamedTuple):
    """One item of a file of JSON: where it stands, for people; its number from 1; its bytes."""

    place: str
    number: int
    raw: bytes


def read(file: SourceFile, options: Options) -> Rows:
    """Read events as they stand: line by line, or item by item of an array of any length.

    Raises:
        Refused: the file is empty, or its array never closes what it opens.
    """
    for item in json_items(file, options):
        yield item if isinstance(item, Rejection) else _row(item, options)


def json_items(file: SourceFile, options: Options) -> Iterator[JsonItem | Rejection]:
    """The items of a file of JSON, in any of its forms, each as its own bytes; what is no item with the reason why not.

    Raises:
        Refused: the file is empty.
    """
    if file.is_empty:
        raise Refused(f"{file.name} is empty: there is nothing to import.")
    encoding = file.encoding(options.encoding)
    form = _form(file.head.decode(encoding, "replace"))
    if form == "lines":
        yield from _lines(file, encoding, options)
        return
    if encoding in ("utf-8", "ascii"):
        chunks: Iterable[bytes] = file.chunks()
    else:
        text = file.text(encoding)
        chunks = iter(lambda: text.read(1 << 18).encode("utf-8", "surrogateescape"), b"")
    yield from _items(file, chunks, options, array=form == "array")


def _form(head: str) -> str:
    """How the events stand: `array`, `lines`, or `objects` that reach over several lines."""
    head = head.lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        return "array"
    lines = [line for line in head.split("\n")[:-1] if line.strip()] or [head]
    first = lines[0].strip()
    if first.endswith("}") or not first.startswith("{"):
        return "lines"
    return "lines" if len(lines) > 1 and lines[1].startswith("{") else "objects"


def _row(item: JsonItem, options: Options) -> Row:
    place, _, raw = item
    try:
        payload = read_payload(raw)
        if options.source and not payload.event.get("source"):
            payload = event_of({**payload.event, "source": options.source})
    except Invalid:
        return Row(place, raw)  # ingest says what is wrong, as to every caller
    return Row(place, payload)


def _lines(file: SourceFile, encoding: str, options: Options) -> Iterator[JsonItem | Rejection]:
    plain = encoding in ("utf-8", "utf-8-sig", "ascii")
    cut = False
    number = 1
    for line in file.lines("utf-8-sig" if plain else encoding):
        place = f"{file.name} line {number}"
        whole = line.endswith(("\n", "\r")) or len(line) < LONGEST_LINE
        raw = _bare(line.encode("utf-8", "surrogateescape").strip(_BLANK))
        if cut or not whole:
            if not cut:
                told = Problem(
                    "",
                    f"The line is longer than {LONGEST_LINE:,} characters; one line holds one event.",
                    "too_long",
                )
                yield Rejection(place, raw[:65536], [told], options.source)
            cut = not whole
        elif raw:
            yield JsonItem(place, number, raw)
        number += whole


def _items(
    file: SourceFile, chunks: Iterable[bytes], options: Options, *, array: bool
) -> Iterator[JsonItem | Rejection]:
    for number, (raw, problem) in enumerate(split(chunks, array=array), start=1):
        place = f"{file.name} item {number}"
        if problem is None:
            yield JsonItem(place, number, _bare(raw))
        else:
            yield Rejection(place, raw[:65536], [problem], options.source)


def _bare(raw: bytes) -> bytes:
    """An item without the mark of an encoding before it: files that begin with one were put together to this one."""
    return raw.removeprefix(codecs.BOM_UTF8).lstrip(_BLANK) if raw[:1] == b"\xef" else raw


Item = tuple[bytes, Problem | None]


def split(chunks: Iterable[bytes], *, array: bool) -> Iterator[Item]:
    """The items of a JSON array (or objects one behind the other), each as its own bytes.

    Only as much is held as the longest item needs. An item that is not JSON is given as it is, where its
    brackets and quotes close; what never closes is the last item, with its problem.
    """
    splitter = _Splitter(array=array)
    for chunk in chunks:
        yield from splitter.feed(chunk)
        if splitter.too_long:
            told = Problem(
                "",
                f"No end of this event was found within {LARGEST_ITEM_BYTES:,} bytes: a quotation mark or bracket is "
                "never closed. What stands behind it was not read.",
                "not_json",
            )
            yield bytes(splitter.buffer), told
            return
    yield from splitter.rest()


class _Splitter:
    """Finds where items end by their brackets and quotes, over chunks of any size."""

    def __init__(self, *, array: bool) -> None:
        self.buffer = bytearray()
        self._array = array
        self._floor = 1 if array else 0  # the depth at which items stand
        self._depth = 0
        self._at = self._start = 0
        self._begun = self._closed = False

    @property
    def too_long(self) -> bool:
        """Whether an item has no end within what one may hold."""
        return not self._closed and len(self.buffer) > LARGEST_ITEM_BYTES

    def _begin(self) -> bool:
        body = bytes(self.buffer).removeprefix(b"\xef\xbb\xbf").lstrip(_BLANK)
        if not body:
            return False
        self.buffer = bytearray(body)
        self._begun = True
        if self._array:
            self._depth = self._at = self._start = 1  # behind the opening [
        return True

    def feed(self, chunk: bytes) -> Iterator[Item]:
        """The items that end in this chunk."""
        if self._closed:
            self.buffer += chunk[:4096]
            return
        self.buffer += chunk
        if not self._begun and not self._begin():
            return
        while not self._closed:
            found = _TOKEN.search(self.buffer, self._at)
            if found is None:
                self._at = len(self.buffer)
                break
            if found[0] == b'"':  # a text that goes on in the next chunk
                self._at = found.start()
                break
            self._at = found.end()
            yield from self._token(found[0], found.start())
        del self.buffer[: self._start]
        self._at -= self._start
        self._start = 0

    def _token(self, token: bytes, begin: int) -> Iterator[Item]:
        if token in (b"{", b"["):
            self._depth += 1
        elif token == b"," and self._depth == self._floor:
            raw = self._cut(begin)
            if raw:
                yield raw, None
            elif self._array:
                yield (
                    raw,
                    Problem(
                        "", "Between two commas of the array stands no event; leave one comma out.", "empty"
                    ),
                )
        elif token == b"]" and self._array and self._depth == 1:
            if raw := self._cut(begin):
                yield raw, None
            self._closed = True
        elif (
            token in (b"}", b"]") and self._depth > self._floor
        ):  # else it closes nothing: its item is no JSON
            self._depth -= 1
            if not self._array and self._depth == 0 and (raw := self._cut(self._at)):
                yield raw, None

    def _cut(self, end: int) -> bytes:
        raw = bytes(self.buffer[self._start : end]).strip(_BLANK)
        self._start = self._at
        return raw

    def rest(self) -> Iterator[Item]:
        """What stands behind the last item; nothing, in a file that is whole."""
        rest = bytes(self.buffer[self._start :]).strip(_BLANK)
        told = ""
        if self._closed:
            told = (
                "Something follows the end of the array; a file holds one array, or one event a line."
                if rest
                else ""
            )
        elif self._array and self._begun:
            told = (
                "The array ends in the middle: its closing ] is missing, or a quotation mark or bracket is never "
                "closed. The file may be cut off."
            )
        elif rest:
            told = "The event ends in the middle: a bracket or quotation mark is never closed. The file may be cut off."
        if told:
            yield rest, Problem("", told, "not_json")


def _is_json(file: SourceFile) -> bool:
    return file.head.replace(b"\x00", b"").lstrip(b"\xef\xbb\xbf\xff\xfe" + _BLANK)[:1] in (b"{", b"[")


def is_segment(file: SourceFile) -> bool:
    """Whether a file of JSON surely holds Segment's calls: each has one of these members, and no CloudEvent has."""
    head = file.head.replace(b"\x00", b"")
    return (
        _is_json(file)
        and b'"specversion"' not in head
        and any(name in head for name in (b'"messageId"', b'"anonymousId"', b'"userId"'))
    )


register(
    Format(
        name="cloudevents",
        meaning="CloudEvents 1.0 in JSON, one a line or in one array",
        read=read,
        recognises=lambda file: _is_json(file) and not is_segment(file),
    )
)
