"""Streams that fit: each reserves the most that it may ever hold, and a server need not have that much to give."""

from __future__ import annotations

import structlog
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError

__all__ = ["add_fitting"]

LEAST_BYTES = 16 * 2**20
_NO_ROOM = frozenset({10002, 10023, 10047})
"""JetStream's codes: the account's limit, the server's resources, its storage."""

log = structlog.get_logger()


async def add_fitting(js: JetStreamContext, config: StreamConfig) -> StreamInfo:
    """Add a stream; where the server has not the room to reserve, with half as much, and so on.

    Raises:
        nats.errors.Error: the server is away, does not let us, or has no room for even the least.
    """
    wanted = config.max_bytes
    while True:
        try:
            info = await js.add_stream(config)
        except APIError as refused:
            if refused.err_code not in _NO_ROOM or not config.max_bytes or config.max_bytes <= LEAST_BYTES:
                log.warning(
                    "stream_refused", stream=config.name, bytes=config.max_bytes, reason=refused.description
                )
                raise
            config.max_bytes = max(LEAST_BYTES, config.max_bytes // 2)
            continue
        if config.max_bytes != wanted:
            log.warning("stream_smaller", stream=config.name, bytes=config.max_bytes, wanted_bytes=wanted)
        return info
