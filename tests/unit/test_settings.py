"""Settings: arguments over environment over defaults, one place, no secrets shown."""

import ast
from pathlib import Path

import pytest

from bin.settings import Settings, described, without_password
from domain.errors import Misconfigured

ROOT = Path(__file__).resolve().parents[2]


def test_an_argument_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"TOUCHLOG_PORT": "9001", "TOUCHLOG_WORKERS": "3"}
    settings = Settings.load(environ, port=9002)
    assert (settings.port, settings.workers, settings.host) == (9002, 3, "127.0.0.1")


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.load({"TOUCHLOG_DATABASE_URL": " "}).database_url is None


def test_a_relative_data_folder_is_meant_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.load({}).data == tmp_path / "data"
    assert Settings.load({}, data="there").data == tmp_path / "there"
    assert Settings.load({}).secret_file == tmp_path / "data" / "secret.key"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TOUCHLOG_PORT", "80a", "TOUCHLOG_PORT is '80a'; a whole number from 0 to 65535"),
        ("TOUCHLOG_WORKERS", "0", "from 1 to 64"),
        ("TOUCHLOG_TIMEZONE", "Mars/Base", "IANA zone"),
        ("TOUCHLOG_TIMEZONE", "../etc/passwd", "IANA zone"),
        ("TOUCHLOG_PHONE_REGION", "England", "two letters"),
        ("TOUCHLOG_SUBJECT_PREFIX", "a.*", "letters, digits"),
        ("TOUCHLOG_LOG_LEVEL", "loud", "debug, info"),
        ("TOUCHLOG_STOP_TIMEOUT_S", "0", "above 0"),
        ("TOUCHLOG_NATS_URL", "nats://a:4222,nats://b:4222", "a URL such as nats://"),
        ("TOUCHLOG_NATS_URL", "nats://bus:port", "a URL such as nats://"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_what_would_be_right(
    variable: str, value: str, said: str
) -> None:
    with pytest.raises(Misconfigured, match=variable) as refused:
        Settings.load({variable: value})
    assert said in str(refused.value)


def test_a_refused_url_is_not_repeated_for_it_may_hold_a_password() -> None:
    with pytest.raises(Misconfigured) as refused:
        Settings.load({"TOUCHLOG_DATABASE_URL": "mysql://ann:s3cret@host/db"})
    assert "s3cret" not in str(refused.value)


def test_passwords_are_not_shown() -> None:
    settings = Settings.load({"TOUCHLOG_DATABASE_URL": "postgresql://ann:s3cret@db:5432/touchlog"})
    assert "s3cret" not in repr(described(settings))
    assert without_password("nats://ann:s3cret@bus:4222") == "nats://ann:***@bus:4222"


def test_an_installation_on_all_addresses_names_one_that_can_be_opened() -> None:
    assert Settings.load({}, host="0.0.0.0").public_url == "http://127.0.0.1:8080"  # noqa: S104
    assert Settings.load({}, host="::1").public_url == "http://[::1]:8080"
    assert Settings.load({"TOUCHLOG_PUBLIC_URL": "https://t.example/"}).public_url == "https://t.example"


def test_every_setting_has_its_unit_and_meaning() -> None:
    for row in described(Settings.load({})):
        assert row["variable"].startswith("TOUCHLOG_")
        assert row["unit"]
        assert row["meaning"].endswith(".")


def test_a_child_process_finds_the_very_same_settings() -> None:
    settings = Settings.load({}, data="/srv/x", port=1, timezone="Europe/London", phone_region="gb")
    assert Settings.load(settings.environment()) == settings


def test_nothing_else_reads_the_environment() -> None:
    # bin/environment.py makes the environment before there is any setting.
    allowed = {ROOT / "bin" / "settings.py", ROOT / "bin" / "environment.py"}
    offences = set()
    for package in ("domain", "projections", "adapters", "bin"):
        for file in set((ROOT / package).rglob("*.py")) - allowed:
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}:
                    offences.add(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not offences
