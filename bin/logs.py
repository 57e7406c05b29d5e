"""Logs: event name first, then key=value in the glossary's words; JSON lines in files, pairs for the eye."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

FIRST = ("event", "level", "at", "part")


def configure(level: str, *, part: str, form: Literal["json", "pairs"]) -> None:
    """Send all logs of this process to standard error.

    Args:
        level: the least level that is written: debug, info, warning or error.
        part: who speaks: serve, http, projectors, relay, or a command's name.
        form: `json` is one object a line, for files and collectors; `pairs` is for the terminal.

    The standard library's loggers (uvicorn, litestar, nats) come out in the same form.
    """

    def say_who(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event.setdefault("part", part)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        say_who,
    ]
    rendered: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if form == "json":
        import orjson

        rendered += [
            structlog.processors.format_exc_info,
            _first_things_first,
            structlog.processors.JSONRenderer(
                serializer=lambda event, **_: orjson.dumps(event, default=str).decode()
            ),
        ]
    else:
        rendered += [
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=FIRST, drop_missing=True, bool_as_flag=False),
        ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _dotted_name_of_library], processors=rendered
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("uvicorn.access", "httpx", "httpcore"):
        # A request's URL may name a person (…/persons/email:ann@…): no plaintext in logs.
        logging.getLogger(chatty).setLevel("WARNING")
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def of_command(level: str, *, part: str) -> None:
    """Send the logs of a command to standard error: warnings only, for what it answers is not a log; all for debugging."""
    configure("debug" if level == "debug" else "warning", part=part, form="pairs")


def _dotted_name_of_library(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Say which library speaks, so that its free text is not taken for an event name of ours."""
    record = event.get("_record")
    return {
        "event": "library_said",
        "library": getattr(record, "name", ""),
        "text": event.pop("event", ""),
        **event,
    }


def _first_things_first(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Put the event's name first, then level, time and part."""
    first = {key: event.pop(key) for key in FIRST if key in event}
    return {**first, **event}
