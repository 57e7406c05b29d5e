"""Channels: what the systems of others send, as they send it; one file a channel, registered by being there.

A channel is a pure reader: a delivery (bytes, headers, the time of receipt) in; touchpoints out, each with
its key and its time, or a reason why there is none. It never raises and never waits; signatures are the
engine's business (`signatures`), recording is `deliveries`'. To add one, copy `template.txt` to
`<vendor>.py`, and let `tests/contract/test_channels.py` tell what is missing.
"""

from adapters.channels.channel import CHANNELS, Channel, Delivery, Setting, Translated, Untranslated
from domain.discovery import load_siblings

__all__ = ["CHANNELS", "Channel", "Delivery", "Setting", "Translated", "Untranslated"]

load_siblings(__name__, list(__path__))
