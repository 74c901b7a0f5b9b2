"""Which tokenizer.json a command line means."""

from pathlib import Path

from llm_label.errors import InputError, SettingsError
from llm_label.watermark.schemes import SCHEMES

__all__ = ["tokenizer_file", "tokenizer_for"]


def tokenizer_for(scheme: str, given: str | None) -> Path | None:
    """Return the tokenizer.json that a key of the scheme is for; None where the scheme has its own units."""
    units = getattr(SCHEMES[scheme], "units", None)
    if units and given:
        raise InputError(f"scheme {scheme!r} counts {units} and no tokens; leave out --tokenizer")
    if not (units or given):
        raise InputError(f"scheme {scheme!r} needs --tokenizer: the tokenizer.json of the model, its folder, or local:")
    return tokenizer_file(given) if given else None


def tokenizer_file(given: str) -> Path:
    """Return the tokenizer.json that a path, a folder or `local:` means."""
    if given.startswith("local:"):
        from llm_label.proxy.upstream import connect
        from llm_label.settings import UpstreamSettings

        try:
            found = connect(UpstreamSettings(url=given)).tokenizer
        except SettingsError as error:  # it speaks of an upstream, where the user named a tokenizer
            said = str(error).removeprefix("upstream ").partition("; known:")[0]
            raise InputError(f"--tokenizer {said}") from error
        if found is None:
            raise InputError(f"{given} has no tokenizer.json")
        return found
    path = Path(given)
    return path / "tokenizer.json" if path.is_dir() else path
