"""Settings: everything that can be set, in one frozen class; nothing else reads the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

import typer

from domain.errors import Misconfigured

NO_BUS = "does not answer: is TOUCHLOG_NATS_URL right? All else works, more slowly awake; nothing comes or goes over NATS until it does."
LOG_LEVELS = ("debug", "info", "warning", "error")

# Converters: from what was given to the setting's value; a ValueError says what is needed instead.


def folder(text: str) -> Path:
    """Make a path absolute: a relative one is meant from the working directory of now."""
    return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - resolve() would follow links


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Take a whole number within bounds."""

    def convert(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"a whole number from {least} to {most} is needed")
        return int(text)

    return convert


def seconds(text: str) -> float:
    """Take a span of seconds, up to an hour."""
    try:
        span_s = float(text)
    except ValueError:
        span_s = 0
    if not 0 < span_s <= 3600:
        raise ValueError("seconds above 0, up to 3600, are needed")
    return span_s


def hours(text: str) -> float:
    """Take a span of hours, up to a year."""
    try:
        span_h = float(text)
    except ValueError:
        span_h = 0
    if not 0 < span_h <= 8760:
        raise ValueError("hours above 0, up to 8760, are needed")
    return span_h


def log_level(text: str) -> str:
    """Take the name of a log level."""
    if text.lower() not in LOG_LEVELS:
        raise ValueError(f"one of {', '.join(LOG_LEVELS)} is needed")
    return text.lower()


def time_zone(text: str) -> str:
    """Take the name of a time zone."""
    try:
        ZoneInfo(text)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError("an IANA zone such as Europe/London is needed") from error
    return text


def country(text: str) -> str:
    """Take a country's code of two letters."""
    if not (len(text) == 2 and text.isascii() and text.isalpha()):
        raise ValueError("a country of two letters such as GB is needed")
    return text.upper()


def subject(text: str) -> str:
    """Take a NATS subject without wildcards."""
    if not all(re.fullmatch(r"[A-Za-z0-9_-]+", token) for token in text.split(".")):
        raise ValueError("letters, digits, - and _, in parts joined by dots, are needed")
    return text


def url(*schemes: str, example: str, several: bool = False) -> Callable[[str], str]:
    """Take a URL of one of *schemes*, of one host or, where that is understood, of several."""

    def convert(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not (several or _names_a_host(parts)):
            raise ValueError(f"a URL such as {example} is needed")
        return text

    return convert


def _names_a_host(parts: SplitResult) -> bool:
    """Whether it is one host, with a port that is a number where one is given."""
    try:
        return bool(parts.hostname) and "," not in parts.netloc.rpartition("@")[2] and parts.port != 0
    except ValueError:
        return False


def setting(
    variable: str,
    convert: Callable[[str], Any] = str,
    *,
    default: Any,
    meaning: str,
    unit: str = "",
    shown_default: str = "",
) -> Any:
    """Declare one setting: its environment variable, converter, unit, default and meaning."""
    metadata = {
        "variable": variable,
        "convert": convert,
        "meaning": meaning,
        "unit": unit,
        "shown_default": shown_default,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one installation, as one process found them when it started."""

    data: Path = setting(
        "TOUCHLOG_DATA",
        folder,
        default=Path("data"),
        shown_default="./data",
        unit="folder",
        meaning="The installation: log, keys, embedded servers' files and logs.",
    )
    database_url: str | None = setting(
        "TOUCHLOG_DATABASE_URL",
        url("postgresql", "postgres", example="postgresql://user:password@host/database", several=True),
        default=None,
        shown_default="the embedded PostgreSQL",
        unit="URL",
        meaning="PostgreSQL 15 or newer that holds the log.",
    )
    nats_url: str | None = setting(
        "TOUCHLOG_NATS_URL",
        url("nats", "tls", example="nats://user:password@host:4222"),
        default=None,
        shown_default="the embedded nats-server",
        unit="URL",
        meaning="NATS server with JetStream: the bus, never the record.",
    )
    given_secret_file: Path | None = setting(
        "TOUCHLOG_SECRET_FILE",
        folder,
        default=None,
        shown_default="secret.key in the data folder",
        unit="file",
        meaning="Bucket keys that wrap every personal field; made on first start with mode 0600.",
    )
    given_public_url: str | None = setting(
        "TOUCHLOG_PUBLIC_URL",
        url("http", "https", example="https://touchlog.example.com"),
        default=None,
        shown_default="http://HOST:PORT",
        unit="URL",
        meaning="How the world reaches this installation, for links in mails and receipts.",
    )
    host: str = setting(
        "TOUCHLOG_HOST", default="127.0.0.1", unit="address", meaning="Address that HTTP listens on."
    )
    port: int = setting(
        "TOUCHLOG_PORT",
        whole_number(0, 65535),
        default=8080,
        unit="TCP port",
        meaning="Port that HTTP listens on; 0 takes a free one.",
    )
    workers: int = setting(
        "TOUCHLOG_WORKERS", whole_number(1, 64), default=1, unit="processes", meaning="HTTP processes."
    )
    log_level: str = setting(
        "TOUCHLOG_LOG_LEVEL",
        log_level,
        default="info",
        unit="level",
        meaning=f"Least level logged: {', '.join(LOG_LEVELS)}.",
    )
    subject_prefix: str = setting(
        "TOUCHLOG_SUBJECT_PREFIX",
        subject,
        default="touchlog",
        unit="NATS subject",
        meaning="First token of all subjects and streams, so that installations can share a server.",
    )
    timezone: str = setting(
        "TOUCHLOG_TIMEZONE",
        time_zone,
        default="UTC",
        unit="IANA zone",
        meaning="Where days, weeks and months are cut unless a question names another zone.",
    )
    phone_region: str | None = setting(
        "TOUCHLOG_PHONE_REGION",
        country,
        default=None,
        shown_default="none: numbers need their +",
        unit="ISO 3166 country",
        meaning="Country of phone numbers written without a country code.",
    )
    stop_timeout_s: float = setting(
        "TOUCHLOG_STOP_TIMEOUT_S",
        seconds,
        default=5.0,
        unit="s",
        meaning="Time that each part gets to end before it is killed; PostgreSQL gets six times as long.",
    )

    check_period_h: float = setting(
        "TOUCHLOG_CHECK_PERIOD_H",
        hours,
        default=24.0,
        unit="h",
        meaning="Within this time the whole of every read model is compared with the log; the newest is within a minute.",
    )

    clickhouse_url: str | None = setting(
        "TOUCHLOG_CLICKHOUSE_URL",
        url("http", "https", example="http://user:password@host:8123/touchlog"),
        default=None,
        shown_default="none",
        unit="URL",
        meaning="ClickHouse's HTTP interface and a database there, for `touchlog clickhouse`.",
    )

    @property
    def secret_file(self) -> Path:
        """The key file of the installation (SEMANTICS: outside PostgreSQL, backed up apart)."""
        return self.given_secret_file or self.data / "secret.key"

    @property
    def public_url(self) -> str:
        """The URL that the world uses, without a slash at its end."""
        return (self.given_public_url or self.local_url).rstrip("/")

    @property
    def local_url(self) -> str:
        """The URL by which this machine reaches HTTP, also where it listens on all addresses."""
        every_address = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
        host = every_address.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ, **arguments: Any) -> Settings:
        """Take arguments over environment over defaults; an argument that is None was not given.

        Raises:
            Misconfigured: a value cannot work; names the variable, the value and what would be right.
        """
        values: dict[str, Any] = {}
        for each in fields(cls):
            variable = each.metadata["variable"]
            given = arguments.get(each.name)
            if given is not None:
                values[each.name] = _converted(each, given, f"--{each.name.replace('_', '-')}")
            elif environ.get(variable, "").strip():
                values[each.name] = _converted(each, environ[variable].strip(), variable)
        settings = cls(**{"data": folder("data"), **values})
        if unknown := arguments.keys() - {each.name for each in fields(cls)}:
            raise TypeError(f"no such settings: {', '.join(sorted(unknown))}")
        return settings

    def environment(self) -> dict[str, str]:
        """Give the environment for a process of ours: the caller's, with these settings in it.

        For child processes, so that they see the very same settings whatever their arguments.
        """
        surroundings = dict(os.environ)
        for each in fields(self):
            value = getattr(self, each.name)
            surroundings.pop(each.metadata["variable"], None)
            if value is not None:
                surroundings[each.metadata["variable"]] = str(value)
        return surroundings


def _converted(declared: Field[Any], value: Any, origin: str) -> Any:
    """Give *value* the form of its setting; *origin* is what an error calls it."""
    try:
        return declared.metadata["convert"](str(value))
    except ValueError as error:
        # A URL may hold a password: it is not repeated.
        shown = "unsuitable" if declared.name.endswith("_url") else repr(str(value))
        raise Misconfigured(f"{origin} is {shown}; {error}.") from None


def names_database() -> bool:
    """Whether the environment names a database of one's own; where none is named, the embedded one serves."""
    return bool(os.environ.get("TOUCHLOG_DATABASE_URL", "").strip())


def without_password(url: str) -> str:
    """Give a URL for the eye, its password replaced by stars."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user_and_host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{parts.username or ''}:***@{user_and_host[2]}").geturl()


def described(settings: Settings) -> list[dict[str, Any]]:
    """Give one row for each setting: variable, value, unit, default, meaning."""
    rows = []
    for each in fields(settings):
        value = getattr(settings, each.name)
        value = str(value) if isinstance(value, Path) else value
        default = each.metadata["shown_default"] or each.default
        rows.append(
            {
                "variable": each.metadata["variable"],
                "value": without_password(value) if each.name.endswith("_url") and value else value,
                "unit": each.metadata["unit"],
                "default": default,
                "meaning": each.metadata["meaning"],
            }
        )
    return rows


DATA_OPTION = typer.Option(
    None,
    "--data",
    metavar="DIR",
    show_default=False,
    help="The installation's folder (default: TOUCHLOG_DATA, else ./data).",
)


def register(app: typer.Typer) -> None:
    """Add `touchlog settings`."""

    @app.command("settings", epilog="Example: touchlog settings --json")
    def settings_command(
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print one JSON array instead of a table."),
    ) -> None:
        """Show every setting: its variable, value, unit, default and meaning."""
        rows = described(Settings.load(data=data))
        if json:
            import orjson

            typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
            return
        titles = ("variable", "value", "unit", "default", "meaning")
        lines = [
            titles,
            *(tuple("" if row[title] is None else str(row[title]) for title in titles) for row in rows),
        ]
        widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
        for line in lines:
            typer.echo(
                "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            )
