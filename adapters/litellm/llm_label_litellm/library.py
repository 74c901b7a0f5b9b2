"""Load litellm: without the network, without a word on stdout, and never before it is needed."""

import importlib
import os
from types import ModuleType
from typing import Any

from llm_label.errors import SettingsError

__all__ = ["load", "secrets", "timeout"]

# What litellm reads while it is imported. It would otherwise fetch its price list and a list of headers from GitHub,
# and read a `.env` file that nobody named.
LOCAL = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True"}
NO_DOTENV = ("LITELLM_MODE", "PRODUCTION")
SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIALS")
SETTINGS = {
    "telemetry": False,
    "suppress_debug_info": True,  # it prints advice to stdout at every error
    "drop_params": False,  # what a provider cannot do is refused, not left out
    "modify_params": False,
    "disable_hf_tokenizer_download": True,  # it counts tokens where a provider does not
    "user_url_validation": True,  # of images that a client names: no private addresses
}


def load() -> ModuleType:
    """Import litellm, which takes three seconds. Raises SettingsError."""
    os.environ.update(LOCAL)
    os.environ.setdefault(*NO_DOTENV)
    try:
        litellm = importlib.import_module("litellm")
    except ImportError as error:
        raise SettingsError(
            f"litellm cannot be loaded ({error}); install it with: pip install 'litellm>=1.106,<2'"
        ) from error
    for name, value in SETTINGS.items():
        setattr(litellm, name, value)
    return litellm


def secrets(api_key: str | None) -> frozenset[str]:
    """List what must not stand in a message: values of the environment that are named like credentials."""
    found = {value for name, value in os.environ.items() if any(word in name.upper() for word in SECRET_NAMES)}
    return frozenset(value for value in {*found, api_key or ""} if len(value) >= 8)


def timeout(connect: float, read: float) -> Any:
    """Return both limits, in seconds, as the type that litellm's own HTTP client takes."""
    import httpx  # noqa: TID251 - litellm's client, and its type; nothing is sent with it here

    return httpx.Timeout(read, connect=connect)
