"""What `GET /v1/models` lists: names that a client may ask for. No I/O here."""

from typing import Any

__all__ = ["listed"]

TEXT = ("chat", "completion", "embedding")  # modes of models that give text or vectors


def listed(litellm: Any, address: str) -> list[str]:
    """List the one model of an address; else what litellm knows of the prefix, or of providers with credentials."""
    if address and not address.endswith("/"):
        return [address]
    provider = address.partition("/")[0]
    known = litellm.models_by_provider.get(provider, ()) if provider else litellm.get_valid_models()
    names = {name if name.startswith(address) else address + name for name in known}
    return sorted(name for name in names if litellm.model_cost.get(name, {}).get("mode", "chat") in TEXT)
