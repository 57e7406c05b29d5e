"""The key file, and what is sealed with it: only the right key opens, and only in its place (SEMANTICS §7)."""

from __future__ import annotations

import base64
import hmac
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from adapters.keys import BUCKETS, KeyFile, _Hmac, associated, nonces, open_sealed, seal
from domain.errors import Misconfigured

ROOT = Path(__file__).resolve().parents[2]
PLACE: dict[str, Any] = {
    "event_id": "e1",
    "type_": "call.ended",
    "version": 1,
    "group": "data",
    "key_id": "k1",
}
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=10,
)


@given(st.binary(max_size=200), st.binary(max_size=300))
def test_codes_of_any_key_are_those_of_rfc_2104(key: bytes, text: bytes) -> None:
    assert _Hmac(key).of(text) == hmac.digest(key, text, "sha256")


@given(VALUES)
def test_what_was_sealed_opens_with_its_key_in_its_place(value: Any) -> None:
    cipher = AESGCM(os.urandom(32))
    sealed = seal(cipher, value, associated(**PLACE), os.urandom(12))
    assert open_sealed(cipher, sealed, associated(**PLACE)) == value


@pytest.mark.parametrize(
    "other",
    [{"event_id": "e2"}, {"type_": "call.missed"}, {"version": 2}, {"group": "extensions"}, {"key_id": "k2"}],
)
def test_in_another_event_type_version_group_or_under_another_key_id_it_does_not_open(
    other: dict[str, Any],
) -> None:
    cipher = AESGCM(os.urandom(32))
    sealed = seal(cipher, "Ann", associated(**PLACE), os.urandom(12))
    with pytest.raises(InvalidTag):
        open_sealed(cipher, sealed, associated(**{**PLACE, **other}))


def test_parts_of_a_place_cannot_be_moved_from_one_to_the_next() -> None:
    assert associated("e", "a.b", 1, "data", "k") != associated("e", "a.b\x001", 1, "data", "k")
    assert associated("e1", "2", 3, "data", "k") != associated("e", "12", 3, "data", "k")


@pytest.mark.parametrize("place", [0, 5, 12, 20, -1])
def test_a_changed_byte_does_not_open(place: int) -> None:
    cipher = AESGCM(os.urandom(32))
    raw = bytearray(base64.b64decode(seal(cipher, "Ann", associated(**PLACE), os.urandom(12))))
    raw[place] ^= 1
    with pytest.raises(InvalidTag):
        open_sealed(cipher, base64.b64encode(raw).decode(), associated(**PLACE))


def test_no_nonce_comes_twice_however_many_are_asked_for() -> None:
    fresh = nonces(3)
    found = [fresh() for _ in range(500)]
    assert len(set(found)) == 500
    assert {len(nonce) for nonce in found} == {12}


def test_the_key_file_is_made_once_for_its_owner_only_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret.key"
    made = KeyFile.open_or_make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    again = KeyFile.open_or_make(path)
    assert path.read_bytes() == before
    assert again.fingerprint == made.fingerprint
    assert again.lookup("email", "", "ann@example.com") == made.lookup("email", "", "ann@example.com")
    assert again.payload_hash(b"x") == made.payload_hash(b"x")
    assert [p.name for p in path.parent.iterdir()] == ["secret.key"]
    assert len({bucket["key"] for bucket in orjson.loads(before)["buckets"]}) == BUCKETS


def test_first_starts_at_once_agree_on_one_file(tmp_path: Path) -> None:
    path, starts = tmp_path / "secret.key", 6
    program = "import sys; from pathlib import Path; from adapters.keys import KeyFile; print(KeyFile.open_or_make(Path(sys.argv[1])).fingerprint)"
    started = [
        subprocess.Popen([sys.executable, "-c", program, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(starts)
    ]
    found = [process.communicate()[0].strip() for process in started]
    assert found == [KeyFile.open_or_make(path).fingerprint] * starts


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o644])
def test_a_key_file_that_others_can_read_is_refused_with_the_cure(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret.key"
    KeyFile.open_or_make(path)
    path.chmod(mode)
    with pytest.raises(Misconfigured, match="chmod 600"):
        KeyFile.open_or_make(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"not a key file", b'{"pepper":1}', b"\xff\xfe"])
def test_another_file_in_its_place_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Misconfigured, match="not a touchlog key file"):
        KeyFile.open_or_make(path)
    assert path.read_bytes() == content


def test_a_truncated_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    KeyFile.open_or_make(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(Misconfigured, match="not a touchlog key file"):
        KeyFile.open_or_make(path)


@pytest.fixture(scope="module")
def two_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[KeyFile, KeyFile]:
    folder = tmp_path_factory.mktemp("keys")
    return KeyFile.open_or_make(folder / "one.key"), KeyFile.open_or_make(folder / "other.key")


def test_a_subjects_keys_open_with_their_bucket_key_only(two_files: tuple[KeyFile, KeyFile]) -> None:
    one, other = two_files
    subject, keys = os.urandom(16), os.urandom(64)
    bucket, wrapped = one.wrap(subject, keys)
    assert keys not in wrapped
    assert one.unwrap(subject, bucket, wrapped) == keys
    # Destroyed: no bucket key of that id is in the file. Then there is nothing, and no error.
    assert other.unwrap(subject, bucket, wrapped) is None
    with pytest.raises(Misconfigured, match="another database"):
        one.unwrap(os.urandom(16), bucket, wrapped)
    with pytest.raises(Misconfigured, match="another database"):
        one.unwrap(subject, bucket, wrapped[:-1] + bytes([wrapped[-1] ^ 1]))


def test_hashes_are_keyed_and_tell_their_parts_apart(two_files: tuple[KeyFile, KeyFile]) -> None:
    one, other = two_files
    assert one.lookup("email", "", "a") != other.lookup("email", "", "a")
    assert one.payload_hash(b"a") != other.payload_hash(b"a")
    assert one.fingerprint != other.fingerprint
    assert (
        len(
            {
                one.lookup(*named)
                for named in [("user", "", "a"), ("user", "a", ""), ("crm", "", "a"), ("", "user", "a")]
            }
        )
        == 4
    )
    assert one.digest("email") != one.lookup("email", "", "").hex()


def test_where_there_is_room_for_half_of_a_key_file_none_is_made(tmp_path: Path) -> None:
    # given a disk that takes the first part of it, as a nearly full one does
    path = tmp_path / "secret.key"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        # when it is made, then that fails by name
        with pytest.raises(OSError, match="File too large"):
            KeyFile.open_or_make(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    # and nothing is left that the next start would take for a damaged one
    assert list(tmp_path.iterdir()) == []
    assert KeyFile.open_or_make(path).fingerprint
