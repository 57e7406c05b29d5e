"""Imports run one way, and the house keeps its shape; the rules are seen to fail on planted offences."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("domain", "projections", "adapters", "bin")
"""From the inside out: each may import itself and those before it."""
NAMELESS = ("utils", "util", "common", "helpers", "helper", "base", "core", "manager", "misc", "shared")
READS_THE_ENVIRONMENT = ("bin/settings.py", "bin/environment.py")
"""The settings; and what makes the environment of Python itself, before anything of ours can be imported."""
NO_ROOMS = {"known_at", "eventsourcing", "msgspec"}
"""Words between backticks in plans that are no modules."""


def modules(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Parse every file of our packages below *root*."""
    for layer in LAYERS:
        for file in sorted((root / layer).rglob("*.py")):
            yield file.relative_to(root), parsed(file.read_text("utf-8"))


@cache
def parsed(source: str) -> ast.Module:
    """Parse a module, once for all rules."""
    return ast.parse(source)


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Find all that a module imports, wherever in it: line and dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def wrong_direction(root: Path) -> list[str]:
    """Find imports that run outward, and what the domain may not know."""
    found = []
    for file, tree in modules(root):
        layer = file.parts[0]
        inside = LAYERS[: LAYERS.index(layer) + 1]
        for line, name in imported(tree):
            top = name.split(".")[0]
            if name.startswith("."):
                found.append(f"{file}:{line} imports {name}: imports name their package")
            elif top == "tests" or (top in LAYERS and top not in inside):
                found.append(f"{file}:{line} imports {name}: {layer} knows {', '.join(inside)} only")
            elif layer == "domain" and top not in (*inside, "msgspec", *sys.stdlib_module_names):
                found.append(
                    f"{file}:{line} imports {name}: domain knows the standard library and msgspec only"
                )
    return found


def environment_readers(root: Path) -> list[str]:
    """Find who looks into the environment."""
    found = []
    for file, tree in modules(root):
        if str(file) in READS_THE_ENVIRONMENT:
            continue
        for node in ast.walk(tree):
            looked = (
                isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb")
            ) or (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and any(a.name in ("environ", "getenv") for a in node.names)
            )
            if looked:
                found.append(
                    f"{file}:{getattr(node, 'lineno', 0)} reads the environment; bin/settings.py does, for all"
                )
    return found


def nameless(root: Path) -> list[str]:
    """Find modules whose name does not say what they are."""
    return [str(file) for file, _ in modules(root) if {file.stem, *file.parts[:-1]} & set(NAMELESS)]


def room_of(root: Path, name: str) -> str | None:
    """Which room of the adapters a dotted name lies in; a module beside the rooms is none."""
    parts = name.split(".")
    inside = parts[0] == "adapters" and len(parts) > 1 and (root / "adapters" / parts[1]).is_dir()
    return parts[1] if inside else None


def rooms_in_a_circle(root: Path) -> list[str]:
    """Find rooms of the adapters that need each other, be it by way of others or of modules beside the rooms."""
    needs: dict[str, set[str]] = {}
    for file, tree in modules(root):
        if file.parts[0] == "adapters":
            node = room_of(root, ".".join(file.with_suffix("").parts)) or file.stem
            for _, name in imported(tree):
                told = room_of(root, name) or (name.split(".")[1] if name.startswith("adapters.") else "")
                needs.setdefault(node, set()).update({told} - {node, ""})
    order = TopologicalSorter(needs)
    try:
        order.prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def plans_gone_stale(root: Path) -> list[str]:
    """Find rooms whose plan, a docstring that begins a paragraph with "Rooms:", names too many or too few."""
    found = []
    for file, tree in modules(root):
        plan = ast.get_docstring(tree) or ""
        if file.name != "__init__.py" or "\n\nRooms: " not in plan:
            continue
        named = set(re.findall(r"`([a-z_]+)`", plan))
        there = {
            each.stem
            for each in (root / file).parent.iterdir()
            if each.suffix == ".py" or (each / "__init__.py").exists()
        } - {"__init__"}
        found += [f"{file} does not name {each}" for each in sorted(there - named)]
        found += [f"{file} names {each}, which is not there" for each in sorted(named - there - NO_ROOMS)]
    return found


def test_imports_run_inward() -> None:
    assert wrong_direction(ROOT) == []


def test_no_two_rooms_of_the_adapters_need_each_other() -> None:
    assert rooms_in_a_circle(ROOT) == []


def test_a_room_names_all_that_is_in_it() -> None:
    assert plans_gone_stale(ROOT) == []


def test_only_the_settings_read_the_environment() -> None:
    assert environment_readers(ROOT) == []


def test_every_module_is_named_by_what_it_is() -> None:
    assert nameless(ROOT) == []


def test_every_package_is_there_and_says_what_it_is() -> None:
    for layer in LAYERS:
        tree = ast.parse((ROOT / layer / "__init__.py").read_text("utf-8"))
        assert ast.get_docstring(tree), f"{layer}/__init__.py has no docstring"


def test_nobody_elses_distribution_brings_packages_of_our_names() -> None:
    brought = packages_distributions()
    for layer in LAYERS:
        assert set(brought.get(layer, ["touchlog"])) == {"touchlog"}, (
            f"{layer} comes from {brought[layer]} too"
        )


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Build a small house that keeps the rules."""
    for layer in LAYERS:
        (tmp_path / layer).mkdir()
        (tmp_path / layer / "__init__.py").write_text('"""A room."""\n')
    (tmp_path / "domain" / "facts.py").write_text(
        "import json\nfrom datetime import date\nimport msgspec\nimport domain\n"
    )
    (tmp_path / "bin" / "settings.py").write_text(
        "import os\nPORT = os.environ['PORT']\nfrom adapters import x\n"
    )
    (tmp_path / "adapters" / "x.py").write_text(
        "import psycopg\nfrom projections import y\nfrom domain.facts import z\n"
    )
    return tmp_path


def test_a_house_in_order_is_found_in_order(house: Path) -> None:
    assert wrong_direction(house) == environment_readers(house) == nameless(house) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("domain/facts.py", "import psycopg"),
        ("domain/facts.py", "from projections import projector"),
        ("domain/facts.py", "def late():\n    import adapters.postgres"),
        ("domain/deep/er.py", "from bin.settings import Settings"),
        ("domain/facts.py", "from . import sibling"),
        ("domain/facts.py", "import importlib\nimportlib.import_module('adapters.x')"),
        ("projections/y.py", "import adapters"),
        ("adapters/x.py", "from bin import settings"),
        ("adapters/x.py", "from tests import waiting"),
        ("bin/x.py", "import tests.conftest"),
    ],
)
def test_an_import_that_runs_outward_is_found(house: Path, file: str, line: str) -> None:
    (house / file).parent.mkdir(exist_ok=True)
    (house / file).write_text(f"{line}\n")
    assert len(wrong_direction(house)) == 1
    assert wrong_direction(house)[0].startswith(file)


@pytest.mark.parametrize(
    "line",
    [
        "import os\nos.environ['A']",
        "import os\nos.getenv('A')",
        "from os import environ",
        "from os import getenv as g",
        "import os as o\no.environ.get('A')",
    ],
)
def test_another_reader_of_the_environment_is_found(house: Path, line: str) -> None:
    (house / "adapters" / "x.py").write_text(f"{line}\n")
    assert len(environment_readers(house)) == 1


@pytest.mark.parametrize(
    "file", ["domain/utils.py", "adapters/common/x.py", "bin/manager.py", "projections/base.py"]
)
def test_a_module_without_a_name_of_its_own_is_found(house: Path, file: str) -> None:
    (house / file).parent.mkdir(exist_ok=True)
    (house / file).write_text("")
    assert nameless(house) == [file]


def test_rooms_that_need_each_other_by_way_of_a_module_are_found(house: Path) -> None:
    for room, line in (
        ("ways_in", "import adapters.x"),
        ("answers", "from adapters.ways_in import payloads"),
    ):
        (house / "adapters" / room).mkdir()
        (house / "adapters" / room / "__init__.py").write_text(f"{line}\n")
    assert rooms_in_a_circle(house) == []
    (house / "adapters" / "x.py").write_text("def late():\n    from adapters.answers import history\n")
    assert {"ways_in", "answers", "x"} == set(rooms_in_a_circle(house))


def test_a_plan_that_names_too_many_or_too_few_is_found(house: Path) -> None:
    plan = '"""The outside world.\n\nRooms: `x` (the unknown){more}.\n"""\n'
    (house / "adapters" / "__init__.py").write_text(plan.format(more=""))
    assert plans_gone_stale(house) == []
    (house / "adapters" / "__init__.py").write_text(plan.format(more=" and `gone`"))
    (house / "adapters" / "fresh.py").write_text("")
    assert plans_gone_stale(house) == [
        "adapters/__init__.py does not name fresh",
        "adapters/__init__.py names gone, which is not there",
    ]
