"""The environment: made when it must be, taken as it is when it can be."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bin import environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with both locks, and an environment that was made for the tests."""
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    for name in environment.CONTAINS:
        shutil.copy(ROOT / f"{name}.lock", checkout)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (checkout / ".venv" / environment.VERSION).write_text(environment.version())
    stamp(checkout, "requirements-test")
    return checkout


def stamp(root: Path, name: str) -> None:
    text = environment.stamp_of(root / f"{name}.lock", environment.version())
    (root / ".venv" / f"{name}.stamp").write_text(text)


def test_an_environment_for_the_tests_serves_the_commands_too(root: Path) -> None:
    assert environment.is_ready(root / ".venv", root, "requirements-test")
    assert environment.is_ready(root / ".venv", root, "requirements")


def test_an_environment_for_the_commands_does_not_serve_the_tests(root: Path) -> None:
    (root / ".venv" / "requirements-test.stamp").rename(root / ".venv" / "requirements.stamp")
    stamp(root, "requirements")
    assert environment.is_ready(root / ".venv", root, "requirements")
    assert not environment.is_ready(root / ".venv", root, "requirements-test")


def test_another_lock_asks_for_another_environment(root: Path) -> None:
    with (root / "requirements-test.lock").open("a") as lock:
        lock.write("# changed\n")
    assert not environment.is_ready(root / ".venv", root, "requirements")


def test_an_interpreter_of_another_version_or_none_is_no_environment(root: Path) -> None:
    (root / ".venv" / environment.VERSION).write_text("python3.9")
    assert not environment.is_ready(root / ".venv", root, "requirements")
    stamp(root, "requirements-test")
    (root / ".venv" / environment.VERSION).write_text(environment.version())
    (root / ".venv" / "bin" / "python").unlink()
    assert not environment.is_ready(root / ".venv", root, "requirements")


def test_what_is_missing_to_make_one_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ensurepip" else found(name)
    )
    with pytest.raises(SystemExit, match=r"has no module ensurepip.*apt install python3\.\d+-venv"):
        environment.make_empty(root / ".venv")


def test_a_folder_in_the_shared_place_that_others_can_write_is_not_trusted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    shared = list(environment.homes(root))[-1]
    assert environment.is_ours_to_write(shared)
    assert environment.is_trusted(shared)
    shared.parent.chmod(0o777)
    assert not environment.is_trusted(shared)
    assert not environment.is_ours_to_write(shared)


def test_the_locks_hold_hashes_and_name_no_host() -> None:
    for name in environment.CONTAINS:
        text = (ROOT / f"{name}.lock").read_text()
        assert "://" not in text
        assert text.count("--hash=sha256:") > text.count("==")


def test_the_tests_lock_contains_the_other_one() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / f"{name}.lock").read_text().splitlines()
        return {line.partition(" ")[0] for line in lines if "==" in line and not line.startswith(" ")}

    assert pins("requirements") < pins("requirements-test")


@pytest.mark.parametrize("script", ["bin/touchlog", "bin/test", ".ci/run", "bin/environment.sh"])
def test_the_launchers_are_sound_shell(script: str) -> None:
    shell = "bash" if script == ".ci/run" else "sh"
    subprocess.run([shell, "-n", ROOT / script], check=True)


def test_a_clearly_quicker_interpreter_makes_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # given two interpreters beside ours: one a little quicker, one of another build; and one that will not do
    speeds = {"/ours": 1.00, "/usr/bin/python3": 0.95, "python3.12": 0.60, "python3.13": float("inf")}
    monkeypatch.setattr(environment, "trial", lambda python: (speeds.get(python, 2.0), python))
    monkeypatch.setattr(shutil, "which", lambda name: name if name in speeds else None)
    # when the choice is made, then the clear winner has it
    assert environment.quickest("/ours") == "python3.12"
    # and without it ours stays: a little quicker is noise
    del speeds["python3.12"]
    assert environment.quickest("/ours") == "/ours"


def test_an_interpreter_that_cannot_be_run_is_never_chosen() -> None:
    assert environment.trial("/nowhere/python3")[0] == float("inf")
