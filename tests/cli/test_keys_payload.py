"""`llm-label keys` with payloads and the secure PRF, and the settings that choose a payload."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llm_label.cli.keys import keys
from llm_label.errors import KeyringError, LabelError, SettingsError
from llm_label.keyfile import read_keyring
from llm_label.proxy.server import marking_key
from llm_label.settings import Settings
from llm_label.watermark.payload import tokens_for
from tests.verify.marking import toy_tokenizer

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a command on a ring of its own."""
    tokenizer, ring = toy_tokenizer(tmp_path), tmp_path / "ring.json"

    def ran(command: str, *arguments: str) -> Result:
        more = ["--tokenizer", str(tokenizer)] if command == "new" else []
        return CliRunner().invoke(keys, [command, *arguments, *more, "--keyring", str(ring)])

    return ran


def test_payloads_are_made_named_and_shown(run: Run, tmp_path: Path) -> None:
    made = run("new", "k", "--payload-bits", "8")
    assert made.exit_code == 0, made.output
    key = read_keyring(tmp_path / "ring.json").get("k")
    bare, laden = tokens_for(key, 1e-6)
    assert bare and laden and 10 <= laden - bare <= 25  # 5.5 nats at about 1/3 nat of evidence a token
    assert f"from about {laden} scored tokens" in made.stderr and f"{laden - bare} more than without" in made.stderr
    assert run("payload", "k", "17", "support chat, Frankfurt").stdout == "k  payload 17 is support chat, Frankfurt\n"
    run("payload", "k", "3", "小助手")
    assert run("list").stdout.splitlines()[1:] == [
        "  payloads 0 to 255",
        "  payload 3: 小助手",
        "  payload 17: support chat, Frankfurt",
    ]
    shown = json.loads(run("show", "k").stdout)
    assert shown["spec"]["payload_bits"] == 8
    assert shown["payloads"] == {"3": "小助手", "17": "support chat, Frankfurt"}
    auditor = json.loads(run("show", "k", "--for-auditor").stdout)["keys"][0]
    assert "payloads" not in auditor and auditor["spec"]["payload_bits"] == 8
    named = json.loads(run("show", "k", "--for-auditor", "--with-names").stdout)["keys"][0]
    assert named == auditor | {"payloads": shown["payloads"]}
    given = read_keyring(tmp_path / "ring.json").get("k").carrying(17).for_auditor()
    assert (given.payload, given.payloads) == (0, ())


def test_plain_keys_say_nothing_of_them(run: Run) -> None:
    assert run("new", "k").stderr == ""
    assert "payload" not in run("list").stdout + run("show", "k").stdout


@pytest.mark.parametrize("scheme", ["gumbel", "dual_gumbel", "bernoulli"])
def test_a_secure_key_has_16_bytes_and_says_what_hashes_it(run: Run, scheme: str) -> None:
    assert run("new", "k", "--scheme", scheme, "--prf", "siphash-2-4-v1").exit_code == 0
    assert "siphash-2-4-v1" in run("list").stdout
    assert len(json.loads(run("show", "k", "--for-auditor").stdout)["keys"][0]["secret"]) == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "v", "--prf", "siphash-2-4-v1", "--import-vllm", "key"], "vLLM has no watermark .*siphash-2-4-v1"),
        (["new", "v", "--scheme", "synthid", "--prf", "siphash-2-4-v1"], "transformers-lcg64-v1' and nothing else"),
        (["new", "v", "--scheme", "synthid", "--payload-bits", "4"], "schemes that do: gumbel"),
        (["new", "v", "--import-synthid", "key", "--payload-bits", "4"], "--payload-bits does not go with"),
        (["payload", "k", "1", "x"], "only 0, for its spec has no payload_bits"),
        (["payload", "none", "1", "x"], "key 'none' is not in the keyring"),
    ],
)
def test_what_does_not_go_together_is_refused(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "key").write_text("42\n")
    (tmp_path / "key").chmod(0o600)
    assert run("new", "k").exit_code == 0
    done = run(*(str(tmp_path / one) if one == "key" else one for one in arguments))
    assert isinstance(done.exception, LabelError)
    with pytest.raises(LabelError, match=message):
        raise done.exception


def test_the_settings_say_which_payload_is_written(run: Run, tmp_path: Path) -> None:
    run("new", "k", "--payload-bits", "4")
    ring = read_keyring(tmp_path / "ring.json")

    def chosen(**watermark: object) -> object:
        return marking_key(Settings.model_validate({"provider": {"name": "ACME"}, "watermark": watermark}), ring)

    assert chosen(key="k") == ring.get("k")
    assert chosen(key="k", payload=9) == ring.get("k").carrying(9)
    with pytest.raises(KeyringError, match="payload 16 is not possible; allowed: a whole number from 0 to 15"):
        chosen(key="k", payload=16)
    with pytest.raises(SettingsError, match="payload is set but watermark.key names no key"):
        chosen(payload=9)
