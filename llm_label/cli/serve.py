"""`llm-label serve`: the proxy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from llm_label.policy import Policy
from llm_label.settings import Settings, load

__all__ = ["given_settings", "options", "serve", "summary"]

Command = TypeVar("Command", bound=Callable[..., Any])

# option -> (key of the settings, what the user typed)
OPTIONS = {
    "upstream": ("upstreams.0.url", "--upstream"),
    "host": ("server.host", "--host"),
    "port": ("server.port", "--port"),
    "workers": ("server.workers", "--workers"),
    "positions": ("labels.positions", "--label"),
    "language": ("labels.language", "--language"),
    "provider": ("provider.name", "--provider"),
    "keyring": ("watermark.keyring", "--keyring"),
    "key": ("watermark.key", "--key"),
    "payload": ("watermark.payload", "--payload"),
}


_OPTIONS = (
    click.option("--config", type=click.Path(path_type=Path), help="Settings file; default: llm-label.toml here."),
    click.option(
        "--upstream",
        metavar="URL",
        help="http(s)://HOST:PORT, local:FOLDER for a checkpoint, litellm:MODEL; default: local:, the embedded model.",
    ),
    click.option("--host", help="Address to listen on; default 127.0.0.1."),
    click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 picks a free one. Default 8080."),
    click.option("--workers", type=click.IntRange(1, 64), help="Processes; default 1."),
    click.option("--label", "positions", metavar="POSITIONS", help="Any of start,middle,end; default start."),
    click.option("--language", help="Language of the labels, such as zh; default auto."),
    click.option(
        "--provider", metavar="NAME", help="Name or 27-character code for the record; needed here or in the settings."
    ),
    click.option("--keyring", type=click.Path(path_type=Path), help="Keyring file; default: the user's own."),
    click.option("--key", metavar="ID", help="Watermark with this key of the ring."),
    click.option("--payload", type=int, metavar="N", help="What the watermark carries, of a key with payload bits."),
)


def options(command: Command) -> Command:
    """Add the options of whatever reads the settings as the proxy does."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(
    epilog="Example: llm-label serve --upstream http://localhost:8000 --provider ACME --label start,end --language zh"
)
@options
def serve(config: Path | None, **given: Any) -> int:
    """Run the proxy. Its address stands on the first line of standard output."""
    from llm_label.proxy.server import serve as run

    settings = given_settings(config, given)

    def announce(address: str, policy: Policy) -> None:
        if settings.upstreams[0].url == "local:":
            click.echo("llm-label: serving the embedded demo model, which knows nothing; see --upstream", err=True)
        click.echo(f"llm-label: {address}")
        click.echo(f"llm-label: {summary(settings, policy)}", err=True)

    return run(settings, announce)


def given_settings(config: Path | None, given: dict[str, Any]) -> Settings:
    """Read the settings with what stands on the command line; an option that was not given is None."""
    values = {key: given.get(option) for option, (key, _) in OPTIONS.items()}
    if (positions := values["labels.positions"]) is not None:
        values["labels.positions"] = [p.strip() for p in positions.split(",") if p.strip()]
    return load(config, flags=values, flag_names=dict(OPTIONS.values()))


def summary(settings: Settings, policy: Policy) -> str:
    """Say in one line what every answer gets."""
    label = f"label at {', '.join(policy.positions)} ({policy.language})" if policy.positions else "no visible label"
    watermark = f"watermark key {policy.key}" if policy.key and policy.upstream_watermarks else "no watermark"
    if settings.watermark.payload is not None and watermark != "no watermark":
        watermark += f", payload {settings.watermark.payload}"
    clients = f"{len(settings.clients)} clients" if settings.clients else "open to whoever reaches it"
    parts = [
        f"policy {policy.id}",
        f"regimes {', '.join(settings.labels.regimes)}",
        label,
        watermark,
        f"provider {policy.producer}",
        f"upstream {settings.upstreams[0].url}",
        clients,
    ]
    return "; ".join(parts)
