"""Addresses that are refused before their text is looked at: blocked domains and words."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.text.config import UrlConfig
from tasks.text.given_files import given_text
from tasks.text.language_codes import code_of

_WORD = re.compile(r"[a-z0-9]+")
_LOCALE = re.compile(r"/([a-z]{2})[-_](?:[A-Z][a-z]{3}[-_])?[A-Z]{2}(?=[/.?#]|$)")
"""A language with its region; a language alone (/it/, /no/) often means other things."""


def language_in(url: str) -> str:
    """The language that an address names with its region (/zh-CN/, /pt_BR.html): its code, or nothing."""
    found = _LOCALE.search(url)
    return code_of(found[1]) if found else ""


class AddressFilter:
    """Says why an address is refused."""

    def __init__(self, config: UrlConfig) -> None:
        """Read the blocked domains; raises GivenFileError where a file is no text."""
        named = set(map(_host, config.blocked_domains))
        self._domains = named.union(*map(_domains, config.blocked_domain_files.files)) - {""}
        self._words = frozenset(word.lower() for word in config.blocked_words)

    def why_blocked(self, url: str, domain: str) -> tuple[str, str]:
        """The reason and what it was that is blocked; two empty strings for an address that may pass."""
        if self._domains:
            labels = _host(domain).split(".")
            for start in range(len(labels)):
                if (name := ".".join(labels[start:])) in self._domains:
                    return "url.blocked_domain", name
        if self._words and (found := self._words.intersection(_WORD.findall(url.lower()))):
            return "url.blocked_word", min(found)
        return "", ""


def _domains(file: Path) -> set[str]:
    lines = given_text(file).splitlines()
    return {_host(line) for line in lines if not line.lstrip().startswith("#")}


def _host(name: str) -> str:
    """A host's name as the network has it (``xn--…``), in lower case."""
    name = name.strip().lower().strip(".")
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name
