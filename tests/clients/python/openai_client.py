"""What every scenario of openai-python shares."""

import json
from typing import Any

from openai import OpenAI
from play import Way
from pydantic import BaseModel


class City(BaseModel):
    name: str
    population: int


def client(way: Way) -> OpenAI:
    return OpenAI(base_url=way.v1, api_key=way.key, max_retries=0)


def header_id(raw: Any) -> str | None:
    """Read the content id from the response header, as a user of raw responses can."""
    header = raw.headers.get("x-aigc")
    return json.loads(header)["ProduceID"] if header else None


def content_id(answer: Any) -> str | None:
    return (answer.model_extra.get("llm_label") or {}).get("content_id")
