"""llm-label in front of any model API that litellm speaks."""

from .upstream import LitellmUpstream

__all__ = ["LitellmUpstream"]
