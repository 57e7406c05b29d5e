"""Commands and processes: the only place where parts are chosen and put together."""

__version__ = "0.1.0"
