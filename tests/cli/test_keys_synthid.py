"""A SynthID key of transformers on the command line: imported, listed, and its mark found in real text."""

import json
from pathlib import Path

from tests.cli.test_commands import TOKENIZER, assert_one_line_error, run
from tests.testdata import documents, folder
from tests.watermark.test_synthid_texts import MARKLLM

NEW = ("keys", "new", "--tokenizer", ".", "--import-synthid", "config.json")


def configured(path: Path, **changed: object) -> Path:
    config = {"keys": MARKLLM, "ngram_len": 5, "sampling_table_size": 65536, "sampling_table_seed": 0, **changed}
    (path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (path / "config.json").write_text(json.dumps({"watermarking_config": config}))
    (path / "config.json").chmod(0o600)
    return path


def test_a_configuration_becomes_a_key_that_shows_no_layer_key(tmp_path: Path) -> None:
    made = run(*NEW, "hf", "--set", "sampling_table=cuda", cwd=configured(tmp_path))
    assert made.returncode == 0, made.stderr
    shown = run("keys", "show", "hf", cwd=tmp_path).stdout
    spec = json.loads(shown)["spec"]
    assert (spec["scheme"], spec["context_width"], spec["variety"]) == ("synthid", 4, "none")
    assert spec["parameters"] == {
        "depth": 30,
        "ngram_len": 5,
        "sampling_table": "cuda",
        "sampling_table_seed": 0,
        "sampling_table_size": 65536,
        "statistic": "weighted",
    }
    secret = f"{654:016x}{400:016x}{836:016x}"
    assert secret in run("keys", "show", "hf", "--reveal", cwd=tmp_path).stdout
    assert secret not in made.stdout + shown


def test_what_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    configured(tmp_path)
    table = ("--set", "sampling_table=cpu")
    assert_one_line_error(run(*NEW, "k", cwd=tmp_path), "needs --set sampling_table=cpu")
    assert_one_line_error(run(*NEW, "k", "--set", "sampling_table=tpu", cwd=tmp_path), "known: cpu, cuda")
    assert_one_line_error(run(*NEW, "k", *table, "--import-vllm", "x", cwd=tmp_path), "both given")
    configured(tmp_path, sampling_table_size=1000)
    assert_one_line_error(run(*NEW, "k", *table, cwd=tmp_path), "a power of two, not 1000")
    configured(tmp_path, keys=[])
    assert_one_line_error(run(*NEW, "k", *table, cwd=tmp_path), "1 to 256 whole numbers")
    (tmp_path / "config.json").chmod(0o644)
    assert_one_line_error(run(*NEW, "k", *table, cwd=tmp_path), "chmod 600")


def test_options_that_contradict_the_configuration_are_refused(tmp_path: Path) -> None:
    """Each alone; the same ones with what the file says are taken."""
    new = (*NEW, "k", "--set", "sampling_table=cpu")
    configured(tmp_path, skip_first_ngram_calls=True)
    for option in (("--scheme", "gumbel"), ("--variety", "none"), ("--set", "ngram_len=4"), ("--set", "depth=29")):
        assert_one_line_error(run(*new, *option, cwd=tmp_path), f"{' '.join(option)} contradicts what config.json says")
    assert not (tmp_path / "keyring.json").exists()
    same = ("--scheme", "synthid", "--variety", "default", "--set", "ngram_len=5", "--set", "statistic=mean")
    made = run(*new, *same, cwd=tmp_path)
    assert made.returncode == 0, made.stderr


def test_detect_finds_a_text_of_others_with_a_ring_of_both_tables(tmp_path: Path) -> None:
    text = documents("data/watermarked/markllm_synthid_opt.jsonl.gz")[0]["text"]
    tokenizer = str(folder("tokenizers") / "opt")
    configured(tmp_path)
    for table in ("cpu", "cuda"):
        run(*NEW, table, "--tokenizer", tokenizer, "--set", f"sampling_table={table}", cwd=tmp_path)
    (tmp_path / "text.txt").write_text(text)
    found = run("detect", "text.txt", "--json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    marks = {mark["key"]: mark for mark in json.loads(found.stdout)["evidence"] if mark["kind"] == "watermark"}
    assert marks["cuda"]["decision"] == "marked" and marks["cuda"]["log10_p"] < -20
    assert marks["cpu"]["decision"] == "not_shown"
    assert "sampling_table=cuda" in json.loads(found.stdout)["signature"]
