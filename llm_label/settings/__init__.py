"""One TOML file, the environment and the flags, read once into frozen settings.

This folder and `cli` are the only places that read files and the environment. Every key of the file can be given as
`LLM_LABEL_<SECTION>_<KEY>` (lists separated by commas), the one upstream as `LLM_LABEL_UPSTREAM`. Later sources win:
file, environment, flags. Secrets come from files, never from the settings file itself.
"""

from llm_label.settings.files import default_audit, default_keyring, read_private
from llm_label.settings.sources import load, parse
from llm_label.settings.tables import (
    AuditSettings,
    ClientSettings,
    LabelSettings,
    ProviderSettings,
    ServerSettings,
    Settings,
    Structured,
    Traffic,
    UpstreamSettings,
    WatermarkSettings,
)

__all__ = [
    "AuditSettings",
    "ClientSettings",
    "LabelSettings",
    "ProviderSettings",
    "ServerSettings",
    "Settings",
    "Structured",
    "Traffic",
    "UpstreamSettings",
    "WatermarkSettings",
    "default_audit",
    "default_keyring",
    "load",
    "parse",
    "read_private",
]
