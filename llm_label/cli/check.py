"""`llm-label check`: the settings, validated and explained duty by duty."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from llm_label.audit.store import Store
from llm_label.cli.serve import given_settings, options
from llm_label.errors import SettingsError
from llm_label.keyfile import load_keyring
from llm_label.policy import Policy
from llm_label.settings import Settings, default_audit
from llm_label.watermark.keyring import Key

__all__ = ["check", "duties"]


@click.command(epilog="Example: llm-label check --config llm-label.toml --upstream http://localhost:8000")
@options
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def check(config: Path | None, as_json: bool, **given: Any) -> int:
    """Validate the settings, with the options that serve would get, and print the effective policy."""
    from llm_label.proxy.candidates import Choosing, choosing
    from llm_label.proxy.clients import Clients
    from llm_label.proxy.server import admin_token, check_tokenizer, marking_key
    from llm_label.proxy.upstream import connect

    settings = given_settings(config, given)
    key = marking_key(settings, load_keyring(settings))
    upstream = choosing(connect(settings.upstreams[0]), key)
    check_tokenizer(key, upstream.tokenizer)
    admin_token(settings)
    Clients(settings)
    _check_audit(settings.audit.path or default_audit())
    surfaces = upstream.surfaces if isinstance(upstream, Choosing) else None
    policy = Policy.of(settings, upstream_watermarks=upstream.watermarks, surfaces=surfaces)
    told = duties(settings, policy, key)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return 0
    for name, text in told.items():
        click.echo(f"{name:<20} {text}")
    click.echo("The settings are valid.")
    return 0


def _check_audit(path: Path) -> None:
    """See that serve can open or make the log; neither make nor change it."""
    try:
        if path.exists():
            _check_log(path)
        folder = next(p for p in Path(os.path.realpath(path)).parents if p.exists())
        # Permissions alone do not tell: some folders take no files from anybody.
        tempfile.TemporaryDirectory(dir=folder).cleanup()
    except OSError as error:
        why = f": {error.strerror}" if error.strerror else ""
        raise SettingsError(f"audit log {path} cannot be written{why}; name a file in audit.path") from error


def _check_log(path: Path) -> None:
    """Raise SettingsError for a file that holds something else, OSError for one that may not be written."""
    if path.stat().st_size:  # an empty one serve makes a log of
        Store(path, reading=True).close()
    path.open("r+b").close()


def duties(settings: Settings, policy: Policy, key: Key | None) -> dict[str, Any]:
    """Say duty by duty what every answer gets; `key`: the one to mark with."""
    language = policy.language
    text = policy.texts[language if language != "auto" else "zh"]
    where = ", ".join(policy.positions)
    shown = f"{text!r} at {where}"
    if language == "auto":
        shown = f"at {where}, in the question's language, such as {text!r}"
    watermark = f"key {key.id} ({key.fingerprint}){_payload(key)}" if key else "none: no watermark.key"
    if policy.key and not policy.upstream_watermarks:
        watermark = f"skipped: the upstream gives no access to its tokens (key {policy.key})"
    elif policy.key and policy.surfaces:
        watermark += f", by choosing among several answers; only {', '.join(sorted(policy.surfaces))}"
    return {
        "policy": policy.id,
        "upstream": settings.upstreams[0].url,
        "visible label": shown if where else "none: labels.positions is empty",
        "metadata record": f"ContentProducer {policy.producer}, in X-AIGC"
        + (" and in the body" if settings.server.body_field else ""),
        "watermark": watermark + (", required" if policy.watermark_required else ""),
        "if a mark fails": "the answer is refused" if not policy.fail_open else "the answer is served and counted",
        "clients": _clients(settings),
        "audit log": str(settings.audit.path or default_audit()),
        "listens on": f"{settings.server.host}:{settings.server.port}, {settings.server.workers} worker(s)",
    }


def _payload(key: Key) -> str:
    """Say which payload the answers will carry, also where nobody chose one."""
    name = key.name_of(key.payload)
    return f", payload {key.payload}{f' ({name})' if name else ''}" if key.spec.payload_bits else ""


def _clients(settings: Settings) -> str:
    if not settings.clients:
        return "whoever reaches the port, as human traffic; Authorization passes to the upstream"
    shown = []
    for client in settings.clients:
        more = [f"label at {', '.join(client.positions)}"] if client.positions else []
        more += [f"may choose {', '.join(client.positions_allowed)}"] if client.positions_allowed else []
        more += [f"structured output: {client.structured}"] if client.structured else []
        shown.append(f"{client.name} ({'; '.join(['/'.join(client.traffic), *more])})")
    return ", ".join(shown) + "; nobody else"
