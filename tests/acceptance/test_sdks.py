"""The clients of others, unmodified, while serve and its HTTP process are killed; the long trial is `bin/soak sdks`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from bin.soaks.sdks import CLIENTS, counted, node_home, run_sdks
from tests.acceptance.test_kill import held_port


def test_every_call_of_every_client_is_in_the_log_once_although_serve_is_killed(tmp_path: Path) -> None:
    with held_port() as port:
        found = run_sdks(tmp_path, clients=list(CLIENTS), calls=60, seconds=3, kills=2, port=port)

    assert found.kills == ["http", "serve"], found
    assert found.broken == [], found
    assert {one.client for one in found.clients} | found.not_run.keys() == set(CLIENTS)
    assert all(one.events == one.calls for one in found.clients), found
    if found.not_run:
        pytest.skip(f"the others passed; not run: {found.not_run}")


def test_an_installation_of_the_node_packages_that_was_broken_off_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a machine without the packages, and an npm that ends when it has written their names
    npm = tmp_path / "npm"
    told = "".join(
        f"""mkdir -p "$5/node_modules/{each.package}"
        echo '{{"version": "{each.node}"}}' >"$5/node_modules/{each.package}/package.json"\n"""
        for each in CLIENTS.values()
        if each.node
    )
    npm.write_text(f"#!/bin/sh\n{told}exit $(cat {tmp_path}/ends)\n")
    npm.chmod(0o755)
    (tmp_path / "ends").write_text("1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _: str(npm))
    # when, then it is told, and told again, and nothing of it is left
    assert "could not install them" in str(node_home())
    assert "could not install them" in str(node_home())
    assert {each.name for each in tmp_path.iterdir()} == {"npm", "ends"}
    # and what is whole is there the next time
    (tmp_path / "ends").write_text("0")
    home = node_home()
    assert home == tmp_path / f"touchlog-node-{os.getuid()}"
    npm.unlink()
    assert node_home() == home
    assert {each.name for each in tmp_path.iterdir()} == {"ends", home.name}


@pytest.mark.parametrize(
    ("numbers", "others", "missing", "doubled", "unknown"),
    [
        ([0, 1, 2], 5, 0, 0, 0),
        ([0, 2], 5, 1, 0, 0),
        ([0, 1, 1, 2], 5, 0, 1, 0),
        ([0, 1, 2, 3], 5, 0, 0, 1),
        ([0, 1, 2], 4, 1, 0, 0),
        ([0, 1, 2], 6, 0, 0, 1),
    ],
)
def test_what_is_missing_doubled_or_unknown_is_told(
    numbers: list[int], others: int, missing: int, doubled: int, unknown: int
) -> None:
    events: list[dict[str, Any]] = [{"data": {"properties": {"n": n}}} for n in numbers]
    events += [{"data": {"traits": {}}}] * others

    told = counted(CLIENTS["segment_python"], 3, events)

    assert (told.missing, told.doubled, told.unknown) == (missing, doubled, unknown)
