"""One file, the environment, the flags; every mistake is one line that names what is allowed."""

import os
from pathlib import Path
from typing import Any

import pytest

from llm_label.errors import KeyringError, SettingsError
from llm_label.settings import load, parse, read_private

CLIENT = {"name": "a", "key_sha256": "0" * 64}


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "llm-label.toml"
    file.write_text('[labels]\nlanguage = "zh"\npositions = ["end"]\n[server]\nport = 1\n')
    environ = {"LLM_LABEL_SERVER_PORT": "2", "LLM_LABEL_LABELS_POSITIONS": "start, middle"}
    settings = load(file, environ, {"server.port": 3, "labels.language": None})
    assert settings.labels.language == "zh"
    assert settings.labels.positions == ("start", "middle")
    assert settings.server.port == 3


def test_paths_of_the_file_start_at_the_file(tmp_path: Path) -> None:
    file = tmp_path / "llm-label.toml"
    file.write_text('[watermark]\nkeyring = "ring.json"\n[audit]\npath = "/var/a.sqlite3"\n')
    settings = load(file, {})
    assert settings.watermark.keyring == tmp_path / "ring.json"
    assert settings.audit.path == Path("/var/a.sqlite3")


def test_a_provider_of_a_later_source_replaces_name_and_code(tmp_path: Path) -> None:
    file = tmp_path / "llm-label.toml"
    file.write_text('[provider]\ncode = "001191440300708461136T1XGW3"\n')
    assert load(file, {}, {"provider.name": "Acme"}).provider.model_dump() == {"name": "Acme", "code": None}


def test_every_section_can_come_from_the_environment() -> None:
    settings = load(
        None,
        {
            "LLM_LABEL_UPSTREAM": "http://gpu:8000/v1",
            "LLM_LABEL_UPSTREAM_READ_TIMEOUT": "5",
            "LLM_LABEL_PROVIDER_NAME": "Acme",
            "LLM_LABEL_LABELS_TEXTS": "en=AI-generated 生成",
            "LLM_LABEL_WATERMARK_REQUIRED": "true",
            "LLM_LABEL_TEST_DATA": "/elsewhere",
        },
    )
    assert settings.upstreams[0].url == "http://gpu:8000/v1" and settings.upstreams[0].read_timeout == 5
    assert settings.labels.texts == {"en": "AI-generated 生成"}
    assert settings.watermark.required and settings.provider.name == "Acme"


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"labels": {"possitions": []}}, "unknown key 'labels.possitions'; did you mean 'positions'?"),
        ({"lables": {}}, "unknown key 'lables'; did you mean 'labels'?"),
        ({"upstreams": [{"ulr": "x"}]}, "unknown key 'upstreams.0.ulr'; did you mean 'url'?"),
        (
            {"labels": {"positions": ["top"]}},
            "settings: labels.positions: 'top' is not known; known: start, middle, end",
        ),
        ({"labels": {"positions": "start"}}, "labels.positions: a list in [brackets] is expected (given: 'start')"),
        ({"server": {"port": 99999}}, "server.port: must be at most 65535 (given: 99999)"),
        ({"server": {"workers": "two"}}, "server.workers: a whole number is expected (given: 'two')"),
        ({"labels": {"regimes": ["us"]}}, "labels.regimes: 'us' is not known; known: cn, eu, kr, none"),
        ({"labels": {"regimes": []}}, "settings: labels.regimes: name at least one of cn, eu, kr, or none (given: [])"),
        ({"labels": {"regimes": ["cn", "none"]}}, "labels.regimes: 'none' stands alone; leave it out, or the others"),
        ({"labels": {"middle_after": 2_000_000}}, "labels.middle_after: must be at most 1000000 (given: 2000000)"),
        ({"server": {"drain": -1}}, "server.drain: must be at least 0 (given: -1)"),
        ({"server": {"max_body": 1}}, "server.max_body: must be at least 1024 (given: 1)"),
        ({"upstreams": [{"read_timeout": 0}]}, "upstreams.0.read_timeout: must be above 0 (given: 0)"),
        ({"server": 3}, "server: a table is expected"),
        ({"clients": {}}, "clients: write [[clients]] with two brackets"),
        ({"clients": [{"nam": "a"}]}, "client number 1: unknown key 'nam'; did you mean 'name'?"),
        ({"clients": [CLIENT | {"trafic": "x"}]}, "client 'a': unknown key 'trafic'; did you mean 'traffic'?"),
        (
            {"clients": [CLIENT | {"traffic": "robot"}]},
            "client 'a': traffic: 'robot' is not known; known: human, machine",
        ),
        ({"clients": [CLIENT | {"traffic": []}]}, "client 'a': traffic: must not be empty"),
        ({"clients": [CLIENT | {"positions": []}]}, "client 'a': positions: must not be empty"),
        ({"clients": [CLIENT | {"name": "a b"}]}, "client number 1: name: must be 1 to 64 of A-Z"),
        (
            {"clients": [CLIENT, {"name": "b", "key": "abc"}]},
            "client 'b': unknown key 'key'; known here: name, key_sha256,",
        ),
        ({"clients": [{"key_sha256": "0" * 64}]}, "client number 1: name: is missing"),
        ({"clients": ["x"]}, "clients.0: a table is expected"),
        ({"upstreams": {"url": "http://x"}}, "settings: upstreams: write [[upstreams]] with two brackets"),
        ({"upstreams": [{"url": "http://"}]}, "upstreams.0.url: has no host or a wrong port; write http://HOST:PORT"),
        ({"upstreams": [{"url": "http://x:80x"}]}, "wrong port; write http://HOST:PORT (given: 'http://x:80x')"),
        ({"upstreams": [{"url": ""}]}, "upstreams.0.url: must not be empty; write http://HOST:PORT"),
    ],
)
def test_a_mistake_is_one_line(tree: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(tree)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_wrong_is_shown_without_tables_and_passwords() -> None:
    with pytest.raises(SettingsError) as two:
        parse({"upstreams": [{"url": "http://a"}, {"url": "http://b"}]})
    assert str(two.value) == "settings: upstreams: one table is expected"
    with pytest.raises(SettingsError) as caught:
        parse({"upstreams": [{"url": "http://me:hush@"}]})
    assert "has no host" in str(caught.value) and "hush" not in str(caught.value)


def test_a_wrong_name_in_the_environment_is_refused_too() -> None:
    with pytest.raises(SettingsError, match="unknown key 'server.prot'; did you mean 'port'"):
        load(None, {"LLM_LABEL_SERVER_PROT": "1"})


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"LLM_LABEL_LABELS_POSITIONS": "start,top"},
            "LLM_LABEL_LABELS_POSITIONS: labels.positions: 'top' is not known",
        ),
        ({"LLM_LABEL_SERVER_PORT": "x"}, "LLM_LABEL_SERVER_PORT: server.port: a whole number is expected (given: 'x')"),
        ({"LLM_LABEL_UPSTREAM_READ_TIMEOUT": "0"}, "LLM_LABEL_UPSTREAM_READ_TIMEOUT: upstreams.0.read_timeout"),
        ({"LLM_LABEL_SERVER_PROT": "1"}, "LLM_LABEL_SERVER_PROT: unknown key 'server.prot'; did you mean 'port'?"),
        ({"LLM_LABEL_FOO_BAR": "1"}, "LLM_LABEL_FOO_BAR: unknown key 'foo'; known here: provider,"),
        ({"LLM_LABEL_LABELS_REGIMES": ""}, "LLM_LABEL_LABELS_REGIMES: labels.regimes: name at least one of cn, eu,"),
        ({"LLM_LABEL_LABELS": "start"}, "LLM_LABEL_LABELS names no key of [labels]; known: regimes, positions,"),
        ({"LLM_LABEL_CLIENTS_NAME": "x"}, "LLM_LABEL_CLIENTS_NAME: clients can only be given in the settings file"),
    ],
)
def test_the_variable_that_is_wrong_is_named(environ: dict[str, str], line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, environ)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_the_flag_that_is_wrong_is_named_and_the_file_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "llm-label.toml"
    file.write_text("[server]\nport = 99999\n")
    with pytest.raises(SettingsError, match=r"llm-label\.toml: server\.port"):
        load(file, {})
    with pytest.raises(SettingsError, match="^--label: labels.positions: 'top' is not known"):
        load(None, {}, {"labels.positions": ["top"]}, {"labels.positions": "--label"})


def test_a_variable_is_not_blamed_for_what_the_file_holds_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "llm-label.toml"
    file.write_text("[[upstreams]]\nurl = 'http://a'\n[[upstreams]]\nurl = 'http://b'\n")
    with pytest.raises(SettingsError, match=r"llm-label\.toml: upstreams: one table is expected"):
        load(file, {"LLM_LABEL_UPSTREAM": "http://c"})


def test_none_stands_for_no_regime() -> None:
    assert parse({"labels": {"regimes": ["none"]}}).labels.regimes == ("none",)


def test_what_may_be_a_clients_key_stands_in_no_error() -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"clients": [{"name": "a", "key_sha256": "sk-this-is-a-secret"}]})
    assert "secret" not in str(caught.value) and "llm-label keys client NAME" in str(caught.value)


def test_one_value_may_stand_for_a_list_in_a_clients_table() -> None:
    (client,) = parse({"clients": [CLIENT | {"key_sha256": "A" * 64, "traffic": "machine"}]}).clients
    assert (client.key_sha256, client.traffic) == (("a" * 64,), ("machine",))


def test_files_that_are_missing_or_no_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no.toml cannot be read"):
        load(tmp_path / "no.toml", {})
    (tmp_path / "bad.toml").write_text("[labels")
    with pytest.raises(SettingsError, match="is not TOML"):
        load(tmp_path / "bad.toml", {})


def test_a_secret_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "ring.json"
    file.write_text("{}")
    file.chmod(0o640)
    with pytest.raises(KeyringError, match=r"mode 0640 and can be read by others; run: chmod 600"):
        read_private(file, "keyring")
    file.chmod(0o600)
    assert read_private(file, "keyring") == "{}"
    with pytest.raises(KeyringError, match="cannot be read"):
        read_private(tmp_path / "none", "keyring")
    for path, what in ((tmp_path, "is a directory"), (Path(os.devnull), "is no file")):  # no advice to change them
        with pytest.raises(KeyringError, match=f"^keyring {path} {what}; name a file$"):
            read_private(path, "keyring")


def test_the_documented_settings_are_valid_and_complete() -> None:
    import tomllib

    from llm_label.settings import ClientSettings, Settings, UpstreamSettings

    text = (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    block = text.split("```toml\n")[1].split("```")[0]
    parse(tomllib.loads(block))
    for section in Settings.model_fields:
        assert section in block
        table = ClientSettings if section == "clients" else type(getattr(parse({}), section))
        for key in (UpstreamSettings if table is tuple else table).model_fields:
            assert key in block, f"{section}.{key} is not documented"


@pytest.mark.parametrize("upstreams", ["upstreams = []", "[upstreams]\nurl = 'http://x'", "upstreams = 'http://x'"])
def test_upstreams_of_another_shape_are_one_clear_line(tmp_path: Path, upstreams: str) -> None:
    file = tmp_path / "llm-label.toml"
    file.write_text(upstreams + "\n")
    with pytest.raises(SettingsError, match="upstreams"):
        load(file, {"LLM_LABEL_UPSTREAM": "http://gpu:8000"})
