"""The rules of the house: who may import whom, what stays pure, what loads when."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import llm_label

ROOT = Path(llm_label.__file__).parent

# room -> what it may import of the package, beside itself and errors (design: imports point one way)
ALLOWED = {
    "errors": set(),
    "settings": set(),
    "keyfile": {"settings", "watermark"},
    "labels": set(),
    "metadata": set(),
    "watermark": set(),
    "policy": {"settings", "labels", "metadata", "watermark"},
    "audit": set(),
    "verify": {"labels", "metadata", "watermark", "policy", "__version__"},
    "proxy": {"audit", "keyfile", "labels", "metadata", "policy", "settings", "verify", "watermark", "__version__"},
    "cli": {
        "audit",
        "keyfile",
        "labels",
        "metadata",
        "policy",
        "proxy",
        "settings",
        "verify",
        "watermark",
        "__version__",
    },
    "__main__": {"cli"},
    "__init__": {"errors", "labels", "metadata", "verify", "watermark"},
}
NEVER = {"torch", "transformers", "litellm", "llm_label_transformers", "llm_label_litellm", "vllm", "sglang"}
IMPURE = {
    "os",
    "time",
    "random",
    "secrets",
    "sqlite3",
    "socket",
    "asyncio",
    "aiohttp",
    "logging",
    "subprocess",
}
PURE = (
    "labels",
    "metadata",
    "watermark",
    "policy",
    "proxy/sse",
    "proxy/surfaces",
    "proxy/jsonspan",
    "proxy/guard",
)
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of every module or name that a file imports."""
    package = ["llm_label", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield from (".".join([*base, *([node.module] if node.module else []), alias.name]) for alias in node.names)


def test_every_room_has_its_rule() -> None:
    assert {room(path) for path in FILES} == set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    here = room(path)
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] not in NEVER, f"{name}: only adapters may import it"
        if parts[0] == "llm_label":
            assert parts[1] in ALLOWED[here] | {here, "errors"}, f"{here} may not import {name}"


@pytest.mark.parametrize("path", [p for p in FILES if str(p.relative_to(ROOT)).startswith(PURE)], ids=str)
def test_pure_modules_reach_no_outside(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)} & IMPURE
    assert not used, f"{path} must stay pure but imports {used}"


def test_importing_llm_label_loads_next_to_nothing() -> None:
    program = "import sys, llm_label; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "torch",
        "transformers",
        "litellm",
        "numpy",
        "aiohttp",
        "pydantic",
        "tokenizers",
        "rich",
        "click",
    }
    assert not heavy & set(loaded)


def test_the_command_line_and_the_proxy_load_no_torch() -> None:
    program = (
        "import sys, llm_label.cli.serve, llm_label.cli.detect, llm_label.proxy.server, llm_label.verify.detector;"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "litellm"} & set(loaded)


def test_public_names_are_all_there() -> None:
    for name in llm_label.__all__:
        assert getattr(llm_label, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = llm_label.nothing
