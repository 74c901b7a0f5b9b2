"""Fetch Debian documentation packages and read paragraphs out of their pages."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

BLOCKS = frozenset(
    (
        *("body", "table", "tr", "td", "th", "ul", "ol", "li", "dl", "dt", "dd", "div", "p", "pre"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "title", "section", "note", "steps", "item", "cite"),
        *("screen", "code", "media", "info", "desc", "script", "style", "nav", "footer", "header", "aside"),
    )
)
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "title"))
SILENT = frozenset(["pre", "script", "style", "nav", "footer", "header", "aside", "screen", "code", "info"])


@dataclass(frozen=True)
class Source:
    """One documentation package: which pages hold which language."""

    package: str
    licence: str
    pages: dict[str, str]  # language -> glob below the unpacked package


SOURCES = (
    Source("libreoffice-help-en-us", "MPL-2.0", {"en": "usr/share/libreoffice/help/en-US/text/**/*.html"}),
    Source("libreoffice-help-zh-cn", "MPL-2.0", {"zh": "usr/share/libreoffice/help/zh-CN/text/**/*.html"}),
    Source(
        "debian-handbook",
        "GPL-2.0+ or CC-BY-SA-3.0",
        {
            "en": "usr/share/doc/debian-handbook/html/en-US/*.html",
            "zh": "usr/share/doc/debian-handbook/html/zh-CN/*.html",
        },
    ),
    Source(
        "gnome-user-docs",
        "CC-BY-SA-3.0",
        {"en": "usr/share/help/C/gnome-help/*.page", "zh": "usr/share/help/zh_CN/gnome-help/*.page"},
    ),
    Source(
        "installation-guide-amd64",
        "GPL-2",
        {
            "en": "usr/share/doc/installation-guide-amd64/en/**/*.html",
            "zh": "usr/share/doc/installation-guide-amd64/zh_CN/**/*.html",
        },
    ),
    Source("debian-reference-zh-cn", "GPL-2+", {"zh": "usr/share/debian-reference/*.zh-cn.html"}),
    Source("debian-faq-zh-cn", "GPL-2+", {"zh": "usr/share/doc/debian/FAQ/zh-cn/*.html"}),
)
DICTIONARY = "wamerican"


@dataclass(frozen=True)
class Package:
    """A downloaded package, as the model card lists it."""

    name: str
    version: str
    sha256: str
    root: Path


def obtain(name: str, cache: Path) -> Package:
    """Download and unpack one Debian package into the cache, without root."""
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob(f"{name}_*.deb")):
        subprocess.run(["apt-get", "download", name], cwd=cache, check=True, capture_output=True)
    deb = sorted(cache.glob(f"{name}_*.deb"))[-1]
    root = cache / "unpacked" / name
    if not root.exists():
        root.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True)
    fields = subprocess.run(["dpkg-deb", "-f", str(deb), "Version"], check=True, capture_output=True, text=True)
    return Package(name, fields.stdout.strip(), hashlib.sha256(deb.read_bytes()).hexdigest(), root)


class PageReader(HTMLParser):
    """Collect (is heading, text) blocks from an HTML or Mallard page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[tuple[bool, str]] = []
        self._text = ""
        self._heading = False
        self._silent = 0

    def _flush(self) -> None:
        text = re.sub(r"\s+", " ", self._text).strip()
        if text and not self._silent:
            self.blocks.append((self._heading, text))
        self._text, self._heading = "", False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in BLOCKS:
            self._flush()
            self._heading = tag in HEADINGS
        if tag in SILENT:
            self._silent += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in BLOCKS:
            self._flush()
        if tag in SILENT:
            self._silent = max(0, self._silent - 1)

    def handle_data(self, data: str) -> None:
        self._text += data


def pages(package: Package, pattern: str) -> Iterator[tuple[str, list[tuple[bool, str]]]]:
    """Yield (page name below its folder, blocks) in a fixed order."""
    for path in sorted(package.root.glob(pattern)):
        reader = PageReader()
        reader.feed(path.read_text("utf-8", errors="replace"))
        reader._flush()
        yield str(path.relative_to(package.root)), reader.blocks
