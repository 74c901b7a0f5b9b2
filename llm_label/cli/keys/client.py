"""`llm-label keys client`: an API key for a client of the proxy, and its `[[clients]]` table."""

from pathlib import Path

import click

from llm_label.errors import SettingsError
from llm_label.settings import parse, read_private

__all__ = ["client"]


@click.command(epilog="Example: llm-label keys client web-app >> llm-label.toml")
@click.argument("name")
@click.option("--key-file", type=click.Path(path_type=Path), help="File with an existing key; default: a new one.")
def client(name: str, key_file: Path | None) -> None:
    """Make an API key for a client of the proxy.

    Its [[clients]] table goes to standard output, the key itself, once, to standard error.
    """
    from llm_label.proxy.clients import digest_of, new_key

    key = read_private(key_file, "client key file").strip() if key_file else new_key()
    digest = digest_of(key)
    try:
        parse({"clients": [{"name": name, "key_sha256": digest}]})
    except SettingsError as error:
        raise SettingsError(str(error).replace("settings: client number 1: name", "a client's name", 1)) from None
    if key_file is None:
        click.echo(f"llm-label: the key of {name}, shown only now: {key}", err=True)
    # The blank line keeps the table apart from what it is appended to, also from a last line that nothing ended.
    click.echo(f'\n[[clients]]\nname = "{name}"\nkey_sha256 = "{digest}"')
