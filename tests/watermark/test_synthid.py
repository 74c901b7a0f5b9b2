"""transformers' SynthID marks, read without torch: the same bits, the same masks, the same padding."""

import base64
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from llm_label.errors import KeyringError
from llm_label.watermark import tournament
from llm_label.watermark.generation_config import read_synthid
from llm_label.watermark.keyring import Key, Keyring, Spec
from llm_label.watermark.scan import decision, scan, token_scores
from llm_label.watermark.schemes import Conditional
from llm_label.watermark.schemes.synthid import SynthID, join_keys
from tests.testdata import folder
from tests.watermark import golden_synthid
from tests.watermark.golden_synthid import KEYS, imported


def padded(ids: list[int], width: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(np.array([-1] * width + ids), width)[:-1]


def slow_bits(ids: list[int], ngram_len: int, keys: list[int], table: np.ndarray) -> list[list[int]]:
    """Hash on Python integers modulo 2^64, taken with sign as torch does: the second, independent way."""

    def step(value: int, data: int) -> int:
        value = ((value + data) * 6364136223846793005 + 1) % 2**64
        return value - 2**64 if value >= 2**63 else value

    rows = []
    for end in range(ngram_len, len(ids) + 1):
        value = 1
        for token in ids[end - ngram_len : end]:
            value = step(value, token)
        rows.append([int(table[step(value, key) % len(table)]) for key in keys])
    return rows


def test_scheme_equals_the_golden_file() -> None:
    golden = json.loads(golden_synthid.FILE.read_text(encoding="utf-8"))
    computed = golden_synthid.compute()
    for name, (score, scored, log10_p) in golden.pop("scans").items():
        found = computed["scans"][name]
        assert found[:2] == [score, scored]
        assert found[2] == pytest.approx(log10_p, abs=1e-9)  # a Fourier transform: last digits are the library's
    assert golden == {name: value for name, value in computed.items() if name != "scans"}


@pytest.mark.parametrize("size", [2, 64, 65536, 2**20])
@pytest.mark.parametrize("ngram_len", [2, 5, 8])
def test_bits_equal_the_hash_written_out_in_64_bits(size: int, ngram_len: int) -> None:
    ids = np.random.default_rng(size + ngram_len).integers(0, 2**32 - 2, 40).tolist()
    keys = [0, 1, 960, 99_999, 2**63 - 1, -1, -(2**63)]
    rules = SynthID(depth=len(keys), ngram_len=ngram_len, sampling_table_size=size)
    got = rules.bits(join_keys(keys), padded(ids, ngram_len - 1), np.array(ids))
    table = tournament.sampling_table("cpu", 0, size)
    assert got[ngram_len - 1 :].tolist() == slow_bits(ids, ngram_len, keys, table)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tables_equal_those_of_torch(device: tournament.Device) -> None:
    data = json.loads((folder("data/watermarked") / "synthid_sampling_tables.json").read_text())
    packed = np.frombuffer(base64.b64decode(data[f"{device}_seed0"]), dtype=np.uint8)
    assert tournament.sampling_table(device, 0, 65536).tolist() == np.unpackbits(packed).tolist()


def test_bits_and_masks_equal_the_reference_vectors() -> None:
    lines = (folder("data/watermarked") / "prf_vectors.jsonl").read_text().splitlines()
    cases = [case for case in map(json.loads, lines) if case["kind"] == "synthid_g_values"]
    assert len(cases) == 13
    for case in cases:
        ids, width = case["ids"], case["ngram_len"] - 1
        names = ("ngram_len", "sampling_table_size", "sampling_table_seed")
        key = imported(case["keys"], variety="default", **{name: case[name] for name in names})
        rules = key.spec.rules
        assert isinstance(rules, SynthID)
        g = rules.bits(key.scheme_key(), padded(ids, width), np.array(ids))[width:]
        assert ["".join(map(str, row)) for row in g.tolist()] == case["g"]
        scored, _ = token_scores(ids, key)
        mask = "".join("1" if position in scored else "0" for position in range(width, len(ids)))
        assert mask == case["context_repetition_mask"]


@pytest.mark.parametrize("ngram_len", [3, 5])
def test_bits_and_masks_equal_those_of_the_installed_transformers(ngram_len: int) -> None:
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    keys = [654, 400, 2**62 + 1, 7, -5]
    theirs = process.SynthIDTextWatermarkLogitsProcessor(
        ngram_len=ngram_len,
        keys=keys,
        sampling_table_size=4096,
        sampling_table_seed=11,
        context_history_size=1024,
        device=torch.device("cpu"),
    )
    ids = np.random.default_rng(4).integers(0, 6, 160)  # few tokens: many contexts come again
    given = torch.tensor(ids)[None]
    key = imported(
        keys, variety="default", ngram_len=ngram_len, sampling_table_size=4096, sampling_table_seed=11, statistic="mean"
    )
    rules = key.spec.rules
    assert isinstance(rules, SynthID)
    width = ngram_len - 1
    g = rules.bits(key.scheme_key(), padded(ids.tolist(), width), ids)[width:]
    assert g.tolist() == theirs.compute_g_values(given)[0].tolist()
    mask = theirs.compute_context_repetition_mask(given)[0].numpy()
    positions, scores = token_scores(ids, key)
    assert (positions - width).tolist() == np.flatnonzero(mask).tolist()
    assert scores.tolist() == g[mask].sum(1).tolist()
    eos = int(ids[90])
    alive = theirs.compute_eos_token_mask(given, eos)[0].numpy()[width:] == 1
    assert scan(ids, key, eos=eos).score == g[mask & alive].sum()


def test_first_tokens_are_scored_after_contexts_of_zeros_as_generation_marks_them() -> None:
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    theirs = process.SynthIDTextWatermarkLogitsProcessor(
        ngram_len=5, keys=KEYS, sampling_table_size=65536, sampling_table_seed=0, context_history_size=8, device="cpu"
    )
    seen: list[np.ndarray] = []
    update = theirs.update_scores
    theirs.update_scores = lambda scores, g: seen.append(g[0].numpy()) or update(scores, g)
    ids, every = [3, 1, 4, 1, 5, 9], np.arange(32)
    for done in range(len(ids)):
        theirs(torch.tensor([[7, 8, *ids[:done]]]), torch.zeros(1, 32))
    rules = SynthID(depth=len(KEYS))
    for position, g in enumerate(seen):
        context = np.repeat(padded(ids, 4)[position : position + 1], 32, axis=0)
        assert (rules.bits(join_keys(KEYS), context, every) == g).all()
    assert scan(ids, imported(variety="none")).scored == 6
    assert scan(ids, imported(variety="default")).scored == 2  # skip_first_ngram_calls


def test_long_texts_score_as_short_ones_do() -> None:
    ids = np.random.default_rng(3).integers(0, 50_000, 9000)
    key = imported()
    rules, contexts = key.spec.rules, padded(ids.tolist(), 4)
    whole = rules.token_scores(key.scheme_key(), contexts, ids)
    parts = [
        rules.token_scores(key.scheme_key(), contexts[at : at + 3000], ids[at : at + 3000]) for at in (0, 3000, 6000)
    ]
    assert whole.tolist() == np.concatenate(parts).tolist()


def test_a_ring_keeps_an_imported_key() -> None:
    key = imported([654, -(2**63), 2**63 - 1], sampling_table="cuda", ngram_len=4)
    back = Keyring.parse(Keyring((key,)).dumps()).get("synthid")
    assert back == key
    assert isinstance(back.spec.rules, SynthID)
    assert back.spec.rules.layer_keys(back.scheme_key()) == (654, -(2**63), 2**63 - 1)
    assert isinstance(back.spec.rules, Conditional)


def test_an_auditor_without_the_root_finds_the_same() -> None:
    key = Key.new("k", bytes(range(32)), Spec(scheme="synthid"))
    ids = np.random.default_rng(1).integers(0, 5000, 300)
    assert scan(ids, key.for_auditor()) == scan(ids, key)
    assert len(set(SynthID().layer_keys(key.scheme_key()))) == 30


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"depth": 0}, "depth is a whole number from 1 to 256"),
        ({"depth": True}, "depth is a whole number"),
        ({"ngram_len": 1}, "ngram_len is a whole number from 2 to 17"),
        ({"sampling_table_size": 3000}, "a power of two, not 3000"),
        ({"sampling_table_size": 2**21}, "from 2 to 1048576"),
        ({"sampling_table_seed": 2**32}, "sampling_table_seed is a whole number"),
        ({"sampling_table": "mps"}, "'mps' is not known; known: cpu, cuda"),
        ({"statistic": "bayesian"}, "known: weighted, mean"),
        ({"keys": 3}, "no parameter 'keys'"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(given: dict[str, object], said: str) -> None:
    with pytest.raises(KeyringError, match=said):
        Spec(scheme="synthid", parameters=given)  # type: ignore[arg-type]


CONFIG = {"keys": KEYS, "ngram_len": 5, "sampling_table_size": 65536, "sampling_table_seed": 0, "debug_mode": False}


@pytest.mark.parametrize("data", [CONFIG, {"do_sample": True, "watermarking_config": CONFIG}])
def test_a_configuration_of_transformers_is_read(data: dict[str, object]) -> None:
    read = read_synthid(json.dumps(data))
    assert read.key == join_keys(KEYS)
    assert SynthID(**read.parameters) == SynthID(depth=9)  # type: ignore[arg-type]
    assert read.variety == "none"
    assert read_synthid(json.dumps({**CONFIG, "skip_first_ngram_calls": True})).variety == "default"
    assert str(read.key) not in repr(read)


def test_what_the_installed_transformers_writes_is_read() -> None:
    configuration = pytest.importorskip("transformers.generation.configuration_utils")
    written = configuration.SynthIDTextWatermarkingConfig(keys=KEYS, ngram_len=4).to_json_string()
    read = read_synthid(written)
    assert (read.key, read.variety) == (join_keys(KEYS), "none")
    assert SynthID(**read.parameters) == SynthID(depth=9, ngram_len=4)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"keys": [654, 400]}',
        '{"keys": [], "ngram_len": 5}',
        '{"keys": [654, "400"], "ngram_len": 5}',
        '{"keys": [654, true], "ngram_len": 5}',
        '{"keys": [654, 18446744073709551616], "ngram_len": 5}',
        '{"keys": "654 400", "ngram_len": 5}',
    ],
)
def test_what_is_no_configuration_is_refused_without_quoting_keys(text: str) -> None:
    with pytest.raises(KeyringError, match="SynthID configuration") as caught:
        read_synthid(text)
    assert "654" not in str(caught.value)


def test_too_few_tokens_are_insufficient_and_enough_are_not() -> None:
    key = imported([*range(30)])
    rng = np.random.default_rng(9)
    assert decision(scan(rng.integers(0, 50_000, 20), key), key, 1e-6) == "insufficient"
    assert decision(scan(rng.integers(0, 50_000, 200), key), key, 1e-6) == "not_shown"


def test_no_token_is_no_evidence() -> None:
    assert scan([], imported()).log10_p == 0.0
    assert scan([1, 2, 3], imported(variety="default")).scored == 0
    assert SynthID().log10_tail(0, 0.0) == 0.0


def test_reading_needs_no_torch() -> None:
    code = "import sys, llm_label.watermark.schemes.synthid; print('torch' in sys.modules or 'scipy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_the_table_is_the_one_recorded() -> None:
    digest = hashlib.sha256(np.packbits(tournament.sampling_table("cpu", 0, 65536)).tobytes()).hexdigest()
    assert digest == "5151fe795a218d1adf0b7fd707204de23867ef2653fdebb8c9ff28d93f6aa55b"
    digest = hashlib.sha256(np.packbits(tournament.sampling_table("cuda", 0, 65536)).tobytes()).hexdigest()
    assert digest == "979fb04062efb09d70a2c6b7888a3b7141f6e5f289be38a88e114ed992d658f0"
