"""Whose is what: the person of each owner of events, kept as long as everybody is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from adapters.columns.rows import REFERENCE

__all__ = ["Owned"]


class Owned:
    """The persons of owners by the owners' codes, at the moment asked for last; more owners are added to it."""

    def __init__(self) -> None:
        self._begin(None)

    def _begin(self, persons: Mapping[str, str] | None) -> None:
        self._persons = persons
        self._codes = np.empty(0, np.int32)
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._references: list[tuple[int, str]] = []

    def of(
        self,
        persons: Mapping[str, str],
        values: Sequence[str],
        of_references: Callable[[Sequence[str]], Mapping[str, str]],
    ) -> tuple[NDArray[np.int32], list[str]]:
        """(the code of each owner's person, the persons); -1 for orders and cases that are nobody's.

        Args:
            persons: of each subject that is not its own person, at one moment; moments at which everybody is the
                same share it.
            values: the owners by their codes: subjects, and references with their prefix.
            of_references: gives the persons of those orders and cases that are somebody's at this moment.
        """
        if self._persons is not persons:
            self._begin(persons)
        known = len(self._codes)
        fresh = values[known:]
        if fresh:
            more = [self._number(place, value, persons) for place, value in enumerate(fresh, start=known)]
            self._codes = np.append(self._codes, np.array(more, np.int32))
        codes = self._codes
        if self._references:
            owned = of_references([reference for _, reference in self._references])
            codes = codes.copy()
            for place, reference in self._references:
                if person := owned.get(reference):
                    codes[place] = self._numbered(person)
        return codes, self._names

    def _number(self, place: int, value: str, persons: Mapping[str, str]) -> int:
        if value.startswith(REFERENCE):
            self._references.append((place, value.removeprefix(REFERENCE)))
            return -1
        return self._numbered(persons.get(value, value))

    def _numbered(self, person: str) -> int:
        number = self._numbers.get(person)
        if number is None:
            number = self._numbers[person] = len(self._names)
            self._names.append(person)
        return number
