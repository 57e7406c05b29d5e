"""A projector that follows the log in a thread, as the one of `serve` does in its process."""

from __future__ import annotations

import threading

import projections  # noqa: F401 - registers every projection
from adapters.postgres.event_log import connect_log
from adapters.postgres.read_models import ReadModels
from adapters.postgres.schema import APP_ROLE
from projections.projection import PROJECTIONS
from projections.projector import Projector

__all__ = ["Following"]


class Following:
    """A projector in a thread that keeps up with the log as it grows."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        reader, store = connect_log(self._url, pool=1, role=APP_ROLE), ReadModels(self._url)
        projector = Projector(reader, store, [type(each)() for each in PROJECTIONS.values()])
        try:
            assert projector.take_leases()
            while not self._ended.is_set():
                if not projector.step():
                    self._ended.wait(0.01)
                projector.renew_leases()
            projector.catch_up()
            projector.release_leases()
            assert store.parked() == []
        except BaseException as error:  # noqa: BLE001 - told where it is waited for
            self._failed = error
        finally:
            store.close()
            reader.datastore.close()

    def end(self) -> None:
        """Let it come to the head, and raise what it raised."""
        self._ended.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed
