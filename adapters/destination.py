"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from domain.errors import Refused

__all__ = ["Destination"]


class Destination:
    """A file or folder that is there whole, or not at all.

    Args:
        path: where it is to stand; its folder must be there.
        folder: whether it is a folder of files.
        force: whether what stands there may be replaced; of folders only one that holds nothing but Parquet files.
        private: only its owner may read it.

    Raises:
        Refused: something stands there, or nothing can stand there; says what to do.
    """

    def __init__(self, path: Path, *, folder: bool, force: bool = False, private: bool = False) -> None:
        self._path = path
        self._folder = folder
        self._force = force
        self._private = private
        self._check()

    def _check(self) -> None:
        path = self._path
        if not path.parent.is_dir():
            raise Refused(f"The folder {path.parent} is not there; make it, or name another place with -o.")
        if not path.exists() and not path.is_symlink():
            return
        if path.exists() and not path.is_dir() and not path.is_file():
            raise Refused(
                f"{path} is a device or a pipe, and is not replaced; leave -o out and write > {path} instead."
            )
        if path.is_dir() != self._folder:
            wanted = "a folder of Parquet files" if self._folder else "a file"
            raise Refused(f"{path} is not {wanted}, and is not replaced; name another place with -o.")
        if not self._force:
            raise Refused(f"{path} is there already; --force replaces it, or name another place with -o.")
        if self._folder and any(p.suffix != ".parquet" or not p.is_file() for p in path.iterdir()):
            raise Refused(
                f"{path} holds more than Parquet files, and is not replaced; name another place with -o."
            )

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Give a temporary place beside; it becomes the destination at the end, or is gone after an error."""
        name = f".{self._path.name}.part-"
        if self._folder:
            temporary = Path(tempfile.mkdtemp(prefix=name, dir=self._path.parent))
        else:
            descriptor, text = tempfile.mkstemp(prefix=name, dir=self._path.parent)
            os.close(descriptor)
            temporary = Path(text)
        try:
            if not self._private:
                mask = os.umask(0)
                os.umask(mask)
                temporary.chmod((0o777 if self._folder else 0o666) & ~mask)
            yield temporary
            for file in temporary.iterdir() if self._folder else (temporary,):
                _to_disk(file)
            self._check()
            self._put(temporary)
        except BaseException:
            if self._folder:
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)
            raise

    def _put(self, temporary: Path) -> None:
        if not (self._folder and self._path.exists()):
            temporary.replace(self._path)
            return
        before = Path(tempfile.mkdtemp(prefix=f".{self._path.name}.before-", dir=self._path.parent))
        self._path.replace(before / "it")
        temporary.replace(self._path)
        shutil.rmtree(before, ignore_errors=True)


def _to_disk(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
