"""`llm-label keys` with payloads and the secure PRF, and the settings that choose a payload."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llm_label.cli.check import duties
from llm_label.cli.keys import keys
from llm_label.cli.serve import summary
from llm_label.errors import LabelError, SettingsError
from llm_label.keyfile import read_keyring
from llm_label.policy import Policy
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


def test_a_ring_that_is_a_link_stays_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ring.json").symlink_to("elsewhere.json")
    assert run("new", "k").exit_code == run("new", "l").exit_code == 0
    assert (tmp_path / "ring.json").is_symlink() and read_keyring(tmp_path / "elsewhere.json").ids == ("k", "l")


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
        (["payload", "b", "16", "x"], "payload 16 is not possible; allowed: a whole number from 0 to 15"),
        (["payload", "b", "-1", "x"], "payload -1 is not possible; allowed: a whole number from 0 to 15"),
        (["payload", "b", "1", "two"], "payload 1 of key 'b' is 'one' already; --replace gives it the new name"),
        (["show", "b", "--with-names"], "--with-names goes with --for-auditor"),
        (["show", "b", "--reveal", "--for-auditor"], "--reveal and --for-auditor exclude each other"),
        (["show", "b", "--for-auditor", "--out", "key"], "key exists already and is not overwritten; name a new file"),
        (["show", "b", "--for-auditor", "--out", ""], "^--out names no file; name a new one$"),
        (["show", "b", "--for-auditor", "--out", "no/key"], "no/key cannot be made: No such file or directory"),
    ],
)
def test_what_does_not_go_together_is_refused(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "key").write_text("42\n")
    (tmp_path / "key").chmod(0o600)
    assert run("new", "k").exit_code == run("new", "b", "--payload-bits", "4").exit_code == 0
    assert run("payload", "b", "1", "one").exit_code == 0
    before = (tmp_path / "ring.json").read_bytes()
    done = run(*(str(tmp_path / one) if one == "key" else one for one in arguments))
    assert isinstance(done.exception, LabelError)
    with pytest.raises(LabelError, match=message):
        raise done.exception
    assert (tmp_path / "ring.json").read_bytes() == before and (tmp_path / "key").read_text() == "42\n"


def test_a_payloads_name_is_replaced_when_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    run("new", "k", "--payload-bits", "8")
    for name in ("one", "one"):  # the same name again changes nothing
        assert run("payload", "k", "7", name).exit_code == 0
    assert run("payload", "k", "7", "two", "--replace").stdout == "k  payload 7 is two, no longer one\n"
    assert read_keyring(tmp_path / "ring.json").get("k").name_of(7) == "two"


@pytest.mark.parametrize(
    "arguments", [("k", "7", "--replce"), ("k", "7", "-x"), ("--replce", "k", "7", "x"), ("k", "-x", "y")]
)
def test_a_mistyped_option_is_no_name(run: Run, arguments: tuple[str, ...]) -> None:
    run("new", "k", "--payload-bits", "8")
    done = run("payload", *arguments)
    assert done.exit_code == 2 and "payload 7" not in run("list").stdout
    assert "No such option" in done.stderr or "not a valid integer" in done.stderr


def test_after_two_dashes_a_name_may_begin_with_one(run: Run, tmp_path: Path) -> None:
    run("new", "k", "--payload-bits", "8")
    ring = tmp_path / "ring.json"
    done = CliRunner().invoke(keys, ["payload", "--keyring", str(ring), "k", "7", "--", "-x"])
    assert done.exit_code == 0, done.output
    assert read_keyring(ring).get("k").name_of(7) == "-x"


def test_an_auditors_ring_goes_into_a_new_file_of_its_owner_alone(run: Run, tmp_path: Path) -> None:
    run("new", "k", "--payload-bits", "8")
    out = tmp_path / "auditor.json"
    done = run("show", "k", "--for-auditor", "--out", str(out))
    key = read_keyring(out).get("k")  # refuses what others may read
    assert done.exit_code == 0 and key.origin == "derived" and stat.S_IMODE(out.stat().st_mode) == 0o600
    assert done.stdout == f"k  {key.fingerprint}  a ring for an auditor is in {out}\n"
    assert out.read_text() == run("show", "k", "--for-auditor").stdout


def test_the_settings_say_which_payload_is_written(run: Run, tmp_path: Path) -> None:
    run("new", "k", "--payload-bits", "4")
    ring = read_keyring(tmp_path / "ring.json")

    def chosen(**watermark: object) -> object:
        return marking_key(Settings.model_validate({"provider": {"name": "ACME"}, "watermark": watermark}), ring)

    assert chosen(key="k") == ring.get("k")
    assert chosen(key="k", payload=9) == ring.get("k").carrying(9)
    with pytest.raises(SettingsError, match="^watermark.payload: key 'k': payload 16 is not .* from 0 to 15$"):
        chosen(key="k", payload=16)
    with pytest.raises(SettingsError, match="payload is set but watermark.key names no key"):
        chosen(payload=9)


def test_the_policy_says_which_payload_answers_carry(run: Run, tmp_path: Path) -> None:
    run("new", "k", "--payload-bits", "4")
    run("payload", "k", "9", "Köln")
    ring = read_keyring(tmp_path / "ring.json")
    for payload, told in ((9, "payload 9 (Köln)"), (3, "payload 3"), (None, "payload 0")):
        watermark = {"key": "k"} | ({} if payload is None else {"payload": payload})
        settings = Settings.model_validate({"provider": {"name": "ACME"}, "watermark": watermark})
        policy = Policy.of(settings, upstream_watermarks=True)
        assert duties(settings, policy, marking_key(settings, ring))["watermark"].endswith(f", {told}")
        assert (f"watermark key k, payload {payload};" in summary(settings, policy)) == (payload is not None)
