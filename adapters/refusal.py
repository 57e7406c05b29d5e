"""A refusal: the answer of a door, over HTTP or NATS, that is an error; `http.problems` writes it as RFC 9457 says."""

from __future__ import annotations

from collections.abc import Mapping

from domain.errors import Problem

__all__ = ["Refusal"]


class Refusal(Exception):
    """An answer that is an error, decided upon by a route.

    Args:
        status: the HTTP status.
        kind: a stable word, by which /docs explains the problem.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: list[Problem] | None = None,
        headers: Mapping[str, str] | None = None,
        lag_positions: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = errors or []
        self.headers = dict(headers or {})
        self.lag_positions = lag_positions
