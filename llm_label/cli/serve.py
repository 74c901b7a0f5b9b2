"""`llm-label serve`: the proxy."""

from pathlib import Path
from typing import Any

import click

from llm_label.settings import load

__all__ = ["flags", "serve"]


@click.command(
    epilog="Example: llm-label serve --upstream http://localhost:8000 --provider ACME --label start,end --language zh"
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings file; default: llm-label.toml here.")
@click.option(
    "--upstream",
    metavar="URL",
    help="http(s)://HOST:PORT, or local:PATH for a checkpoint; default: the embedded model.",
)
@click.option("--host", help="Address to listen on; default 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 picks a free one. Default 8080.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes.")
@click.option("--label", "positions", metavar="POSITIONS", help="Any of start,middle,end.")
@click.option("--language", help="Language of the labels, or auto.")
@click.option("--provider", metavar="NAME", help="Name or 27-character code for the record.")
@click.option("--keyring", type=click.Path(path_type=Path), help="Keyring file.")
@click.option("--key", metavar="ID", help="Watermark with this key of the ring.")
def serve(config: Path | None, **given: Any) -> int:
    """Run the proxy. Its address stands on the first line of standard output."""
    from llm_label.proxy.server import serve as run

    settings = load(config, flags=flags(given))
    if settings.upstreams[0].url == "local:":
        click.echo("llm-label: serving the embedded demo model, which knows nothing; see --upstream", err=True)
    return run(settings, lambda address: click.echo(f"llm-label: {address}"))


def flags(given: dict[str, Any]) -> dict[str, Any]:
    """Map command-line options to keys of the settings; what was not given stays None."""
    positions = given.get("positions")
    return {
        "upstreams.0.url": given.get("upstream"),
        "server.host": given.get("host"),
        "server.port": given.get("port"),
        "server.workers": given.get("workers"),
        "labels.positions": None if positions is None else [p.strip() for p in positions.split(",") if p.strip()],
        "labels.language": given.get("language"),
        "provider.name": given.get("provider"),
        "watermark.keyring": given.get("keyring"),
        "watermark.key": given.get("key"),
    }
