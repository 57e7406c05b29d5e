"""CloudEvents in files: JSON lines, one array, or objects one behind the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from adapters.cloudevents import event_of, read_payload
from adapters.imports.format import Format, Options, Rejection, Row, Rows, register
from adapters.imports.source_file import LONGEST_LINE, SourceFile
from domain.errors import Invalid, Problem, Refused

__all__ = ["read"]

_BLANK = b" \t\r\n"
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|["{}\[\],]', re.DOTALL)
LARGEST_ITEM_BYTES = 16 << 20


def read(file: SourceFile, options: Options) -> Rows:
    """Read events as they stand: line by line, or item by item of an array of any length.

    Raises:
        Refused: the file is empty, or its array never closes what it opens.
    """
    if file.is_empty:
        raise Refused(f"{file.name} is empty: there is nothing to import.")
    encoding = file.encoding(options.encoding)
    form = _form(file.head.decode(encoding, "replace"))
    if form == "lines":
        return _lines(file, encoding, options)
    if encoding in ("utf-8", "ascii"):
        chunks: Iterable[bytes] = file.chunks()
    else:
        text = file.text(encoding)
        chunks = iter(lambda: text.read(1 << 18).encode("utf-8", "surrogateescape"), b"")
    return _items(file, chunks, options, array=form == "array")


def _form(head: str) -> str:
    """How the events stand: `array`, `lines`, or `objects` that reach over several lines."""
    head = head.lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        return "array"
    lines = [line for line in head.split("\n")[:-1] if line.strip()] or [head]
    first = lines[0].strip()
    if first.endswith("}") or not first.startswith("{"):
        return "lines"
    return "lines" if len(lines) > 1 and lines[1].lstrip().startswith("{") and lines[1].startswith(lines[0][0]) else "objects"


def _row(place: str, raw: bytes, options: Options) -> Row:
    try:
        payload = read_payload(raw)
        if options.source and not payload.event.get("source"):
            payload = event_of({**payload.event, "source": options.source})
    except Invalid:
        return Row(place, raw)  # ingest says what is wrong, as to every caller
    return Row(place, payload)


def _lines(file: SourceFile, encoding: str, options: Options) -> Rows:
    plain = encoding in ("utf-8", "utf-8-sig", "ascii")
    cut = False
    number = 1
    for line in file.lines("utf-8-sig" if plain else encoding):
        place = f"{file.name} line {number}"
        whole = line.endswith(("\n", "\r")) or len(line) < LONGEST_LINE
        raw = line.encode("utf-8", "surrogateescape").strip(_BLANK)
        if cut or not whole:
            if not cut:
                told = Problem("", f"The line is longer than {LONGEST_LINE:,} characters; one line holds one event.", "too_long")
                yield Rejection(place, raw[:65536], [told], options.source)
            cut = not whole
        elif raw:
            yield _row(place, raw, options)
        number += whole


def _items(file: SourceFile, chunks: Iterable[bytes], options: Options, *, array: bool) -> Rows:
    number = 0
    for raw, problem in split(chunks, array=array):
        number += 1
        place = f"{file.name} item {number}"
        if problem is None:
            yield _row(place, raw, options)
        else:
            yield Rejection(place, raw[:65536], [problem], options.source)


def split(chunks: Iterable[bytes], *, array: bool) -> Iterator[tuple[bytes, Problem | None]]:
    """The items of a JSON array (or objects one behind the other), each as its own bytes.

    Only as much is held as the longest item needs. An item that is not JSON is given as it is, where its
    brackets and quotes close; what never closes is the last item, with its problem.
    """
    buffer = bytearray()
    at = start = depth = 0
    opened, closed = not array, False
    floor = 1 if array else 0
    for chunk in chunks:
        buffer += chunk
        if not opened:
            body = bytes(buffer).removeprefix(b"\xef\xbb\xbf").lstrip(_BLANK)
            if not body:
                continue
            buffer = bytearray(body)
            opened, depth, at, start = True, 1, 1, 1
        elif not array and not at:
            buffer = bytearray(bytes(buffer).removeprefix(b"\xef\xbb\xbf"))
        while True:
            found = _TOKEN.search(buffer, at)
            if found is None:
                at = max(at, len(buffer))
                break
            token = found[0]
            if token == b'"':  # a text that goes on in the next chunk
                at = found.start()
                break
            at = found.end()
            if token in (b"{", b"["):
                depth += 1
            elif token in (b"}", b"]"):
                if depth == floor and token == b"}":
                    continue  # closes nothing: its item is no JSON
                depth = max(depth - 1, 0)
                if depth == 0:
                    end = found.start() if array else at
                    if raw := bytes(buffer[start:end]).strip(_BLANK):
                        yield raw, None
                    start = at
                    if array:
                        closed = True
                        break
            elif token == b"," and depth == floor:
                raw = bytes(buffer[start : found.start()]).strip(_BLANK)
                if raw or array:
                    yield raw, None if raw else Problem("", "Between two commas of the array stands no event; leave one comma out.", "empty")
                start = at
        if closed:
            break
        if start:
            del buffer[:start]
            at -= start
            start = 0
        if len(buffer) > LARGEST_ITEM_BYTES:
            yield bytes(buffer), _never_ends()
            return
    rest = bytes(buffer[start:]).strip(_BLANK)
    if closed:
        for chunk in chunks:
            rest = (rest + chunk).strip(_BLANK)
            if len(rest) > 4096:
                break
        if rest:
            yield rest, Problem("", "Something follows the end of the array; a file holds one array, or one event a line.", "not_json")
    elif array and opened:
        yield rest, Problem("", "The array ends in the middle: its closing ] is missing, or a quotation mark or bracket is never closed. The file may be cut off.", "not_json")
    elif rest:
        yield rest, Problem("", "The event ends in the middle: a bracket or quotation mark is never closed. The file may be cut off.", "not_json")


def _never_ends() -> Problem:
    return Problem(
        "",
        f"No end of this event was found within {LARGEST_ITEM_BYTES:,} bytes: a quotation mark or bracket is never closed. "
        "What stands behind it was not read.",
        "not_json",
    )


register(
    Format(
        name="cloudevents",
        meaning="CloudEvents 1.0 in JSON, one a line or in one array",
        read=read,
        recognises=lambda file: file.head.replace(b"\x00", b"").lstrip(b"\xef\xbb\xbf\xff\xfe" + _BLANK)[:1] in (b"{", b"["),
    )
)
