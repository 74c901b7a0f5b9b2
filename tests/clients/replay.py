"""Ask again what a client asked, as bytes: the proxy with marks off must answer what the upstream answers."""

import base64
import http.client
import json
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass
from functools import cache

__all__ = ["Ask", "replayed"]

# Of one connection, not of the answer (RFC 9110 7.6.1), or of the moment.
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server", "trailer", "upgrade", "te"}
WITHOUT_TEXT = re.compile(r"^/v1/models|_tokens$")
OWN = ("x-aigc", "x-llm-label", "ai-disclosure")


@dataclass(frozen=True)
class Ask:
    """One request as it reached the upstream."""

    who: str
    way: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    heard: bool  # the same was asked before

    @classmethod
    def journal(cls, tape: str) -> list["Ask"]:
        """Fetch what the upstream was asked so far."""
        with urllib.request.urlopen(f"{tape}/journal") as response:
            lines = json.load(response)
        return [
            cls(**{**line, "headers": tuple(map(tuple, line["headers"])), "body": base64.b64decode(line["body"])})
            for line in lines
        ]


Answer = tuple[int, dict[str, str], bytes]


def replayed(asks: list[Ask], ways: dict[str, str]) -> dict[str, list[str]]:
    """List, for each way, what differs on the wire."""
    direct = [ask for ask in asks if ask.way == "direct"]
    found: dict[str, list[str]] = {"off": [], "on": []}
    if not direct:
        return {way: ["no request of this scenario reached the upstream directly"] for way in found}
    for ask in dict.fromkeys(direct):
        plain, off, on = (_send(ways[way], ask) for way in ("direct", "off", "on"))
        where = f"{ask.method} {ask.path}"
        found["off"] += [f"{where}: {fault}" for fault in _unequal(plain, off)]
        if on[0] != plain[0]:
            found["on"].append(f"{where}: status {on[0]}, directly {plain[0]}")
        elif on[0] == 200 and "x-aigc" not in on[1] and not WITHOUT_TEXT.search(ask.path):
            found["on"].append(f"{where}: no X-AIGC header")
    sent = {ask.body for ask in direct}
    for ask in asks:
        if ask.way == "off" and ask.body not in sent:
            found["off"].append(f"{ask.path}: the upstream got other bytes than directly: {ask.body[:300]!r}")
        if ask.way == "on" and not ask.heard and ask.method == "POST":  # a stream is fetched whole to label its rest
            found["on"].append(f"{ask.path}: the upstream was asked something else than directly: {ask.body[:600]!r}")
    return found


def _unequal(plain: Answer, off: Answer) -> list[str]:
    faults = []
    if off[0] != plain[0]:
        faults.append(f"status {off[0]}, directly {plain[0]}")
    if off[2] != plain[2]:
        faults.append(f"body {off[2][:200]!r}, directly {plain[2][:200]!r}")
    kept = {name: value for name, value in off[1].items() if name not in OWN}
    for name in plain[1].keys() - HOP:
        if kept.get(name) != plain[1][name]:
            faults.append(f"header {name} is {kept.get(name)!r}, directly {plain[1][name]!r}")
    return faults


@cache
def _send(base: str, ask: Ask) -> Answer:
    url = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    headers = {n: v for n, v in ask.headers if n.lower() not in HOP | {"host", "accept-encoding"}}
    try:
        connection.request(ask.method, ask.path, ask.body or None, headers)
        response = connection.getresponse()
        return response.status, {n.lower(): v for n, v in response.getheaders()}, response.read()
    finally:
        connection.close()
