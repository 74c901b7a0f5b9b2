"""`llm-label keys`: make and list watermark keys. Secrets are shown only on request."""

import click

from llm_label.cli.keys.client import client
from llm_label.cli.keys.new import new
from llm_label.cli.keys.payload import payload
from llm_label.cli.keys.shown import list_keys, show

__all__ = ["keys"]


@click.group(epilog="Example: llm-label keys new 2026-11 --tokenizer /models/qwen3/tokenizer.json")
def keys() -> None:
    """Make and list watermark keys, and make API keys for clients of the proxy.

    The ring of watermark keys is all that detection needs years later.
    """


for command in (new, payload, list_keys, show, client):
    keys.add_command(command)
