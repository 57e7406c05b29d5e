"""A file to be imported: opened, unpacked and decoded as a stream, with its progress in bytes."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from domain.errors import Refused

__all__ = ["SourceFile", "Stopped", "open_file"]

HEAD_BYTES = 1 << 18
"""How much of a file is looked at before it is read: 256 KiB."""
LONGEST_LINE = 16 << 20
"""Characters of one line; HTTP takes no larger body either."""
_CLEARLY_OTHER = 20
"""So many lines of the head that are not UTF-8, and none that uses UTF-8: then the file is of another encoding."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Stopped(Exception):
    """The caller wants no further rows."""


class _Raw(io.RawIOBase):
    """The file on disk, counted as it is read; ends at once when the caller has stopped."""

    def __init__(self, inner: io.RawIOBase) -> None:
        self._inner = inner
        self.read_bytes = 0
        self.stop = threading.Event()

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        if self.stop.is_set():
            raise Stopped
        count: int = self._inner.readinto(into) or 0
        self.read_bytes += count
        return count


class SourceFile:
    """One opened file.

    Attributes:
        name: its name without folders; how places are told.
        size_bytes: on disk, packed as it is; None where nobody knows (standard input).
        expected: how many events will come, once a reader knows.
    """

    def __init__(self, name: str, raw: _Raw, size_bytes: int | None) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self.expected: int | None = None
        self._raw = raw
        buffered = io.BufferedReader(raw, 1 << 17)
        self._stream = _unpacked(buffered)
        with self._reading():
            self.head = self._stream.peek(HEAD_BYTES)[:HEAD_BYTES]

    @property
    def read_bytes(self) -> int:
        """Bytes read from disk so far."""
        return self._raw.read_bytes

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it but a mark of its encoding."""
        return self.head in (b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

    def stop(self) -> None:
        """Let the reader, in whatever thread it is, end at its next bytes with `Stopped`."""
        self._raw.stop.set()

    def encoding(self, given: str | None = None) -> str:
        """The encoding *given*, or the one that the first bytes show; UTF-8 where they show none.

        Raises:
            Refused: there is no such encoding, or the file is clearly not UTF-8 and which it is cannot be known.
        """
        if given:
            try:
                return codecs.lookup(given).name
            except LookupError:
                raise Refused(
                    f"There is no encoding '{given}'; write it as Python does: utf-8, cp1252 (Excel in the west), "
                    "iso-8859-1, utf-16, shift_jis …"
                ) from None
        for mark, name in _BOMS:
            if self.head.startswith(mark):
                return name
        even, odd = self.head[0:4096:2], self.head[1:4096:2]
        if odd and odd.count(0) > len(odd) * 0.4 and even.count(0) < len(even) * 0.1:
            return "utf-16-le"
        if even and even.count(0) > len(even) * 0.4 and odd.count(0) < len(odd) * 0.1:
            return "utf-16-be"
        wrong = right = 0
        for line in self.head.split(b"\n")[:-1]:
            if not line.isascii():
                try:
                    line.decode()
                    right += 1
                except UnicodeDecodeError:
                    wrong += 1
        if wrong >= _CLEARLY_OTHER and not right:
            raise Refused(
                f"{self.name} is not UTF-8 ({wrong:,} of its first lines are not), and which encoding it is cannot be "
                "known for sure. Name it: --encoding cp1252 for files from Excel in the west, iso-8859-1, shift_jis …; "
                "or --encoding utf-8 to have such rows rejected one by one."
            )
        return "utf-8"

    def lines(self, encoding: str) -> Iterator[str]:
        """All lines with their ends; bytes that cannot be decoded come as lone surrogates or U+FFFD.

        A line longer than `LONGEST_LINE` comes in pieces.
        """
        text = self.text(encoding)
        with self._reading():
            while line := text.readline(LONGEST_LINE):
                yield line

    def text(self, encoding: str) -> io.TextIOWrapper:
        """The text as a stream; see `undecodable` for what cannot be decoded."""
        errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        return io.TextIOWrapper(self._stream, encoding=encoding, errors=errors, newline="")

    def chunks(self, size: int = 1 << 18) -> Iterator[bytes]:
        """The bytes, unpacked."""
        with self._reading():
            while chunk := self._stream.read1(size):
                yield chunk

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Tell of a damaged archive in our words."""
        try:
            yield
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as damage:
            raise Refused(
                f"{self.name} cannot be unpacked to its end: the archive is damaged or cut off ({damage}). Get the file "
                "again and repeat the command: what is recorded already is skipped."
            ) from None
        except OSError as error:
            raise Refused(f"{self.name} cannot be read: {error.strerror or error}.") from None

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()


def undecodable(text: str) -> bool:
    """Whether *text* holds what stands for bytes that could not be decoded."""
    return not text.isascii() and any("\udc80" <= c <= "\udcff" or c == "�" for c in text)


def _unpacked(stream: io.BufferedReader[Any]) -> _Peekable:
    """The stream behind gzip, xz or bzip2, told by its first bytes whatever the file is called."""
    magic = stream.peek(6)[:6]
    if magic.startswith(b"\x1f\x8b"):
        return _Peekable(gzip.GzipFile(fileobj=stream, mode="rb"))
    if magic.startswith(b"\xfd7zXZ\x00"):
        return _Peekable(lzma.LZMAFile(stream, "rb"))
    if magic.startswith(b"BZh"):
        return _Peekable(bz2.BZ2File(stream, "rb"))
    return _Peekable(stream)


class _Peekable(io.BufferedReader):
    """A buffered reader whose first peek sees `HEAD_BYTES`, if the file has so much."""

    def __init__(self, inner: Any) -> None:
        super().__init__(_Filling(inner), HEAD_BYTES)


class _Filling(io.RawIOBase):
    """Reads on until the room that was asked for is full: packed streams give a little at a time."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._first = True
        self._damage: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        if self._damage is not None:
            raise self._damage
        if not self._first:
            return int(self._inner.readinto(into))
        self._first = False
        view = memoryview(into)
        filled = 0
        try:
            while filled < len(view) and (count := self._inner.readinto(view[filled:])):
                filled += count
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as damage:
            if not filled:
                raise
            self._damage = damage  # told when the reader comes to it
        return filled

    def close(self) -> None:
        self._inner.close()
        super().close()


@contextmanager
def open_file(path: Path | str) -> Iterator[SourceFile]:
    """Open *path* for reading; `-` is standard input.

    Raises:
        Refused: it is not there, is a folder, or may not be read; says which.
    """
    if str(path) == "-":
        yield SourceFile("standard input", _Raw(cast("Any", sys.stdin.buffer).raw), None)
        return
    path = Path(path)
    try:
        opened = path.open("rb", buffering=0)
        if not path.is_file():
            size: int | None = None
        else:
            size = path.stat().st_size
    except FileNotFoundError:
        raise Refused(f"There is no file {path}; check the name and the working directory.") from None
    except IsADirectoryError:
        raise Refused(f"{path} is a folder; name the files in it.") from None
    except OSError as error:
        raise Refused(f"{path} cannot be opened: {error.strerror}.") from None
    with opened:
        file = SourceFile(path.name, _Raw(opened), size)
        try:
            yield file
        finally:
            with suppress(OSError, ValueError, Stopped):
                file.close()
