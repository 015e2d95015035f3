"""A remote file brought here whole: resumed with range requests, retried, refused where it is private."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from tasks.web.config import CrawlConfig
from tasks.web.fetch import RETRY_STATUSES, Fetcher, FetchError, Response, Want
from tasks.web.urls import REDIRECTS, redirect_target

PIECE = 4 * 2**20
"""Bytes asked for at once: what a broken connection costs."""
RESTARTS = 3
"""Versions met in one download from which the file is asked for whole: servers behind one address that each
name it otherwise."""
NEED_A_TOKEN = frozenset({401, 403})
_DATED = re.compile(r"(\w{3}, .* GMT)( \d+)?")

Tell = Callable[[float, float | None, str], None]


class DownloadError(ConnectionError):
    """A file that did not come; of a kind that can succeed next time."""


class GoneError(ValueError):
    """A file that the server does not have, or does not give: trying again would not help."""


def fetch_bytes(url: str, config: CrawlConfig, limit: int) -> bytes:
    """The body of one small file; raises DownloadError or GoneError."""
    return asyncio.run(_small(url, config, limit))


def version_of(url: str, config: CrawlConfig) -> str:
    """What a file's server calls its version now, without bringing the file; empty where it says nothing, or
    nothing to those without a token, which others may have.

    Raises DownloadError or GoneError.
    """
    return asyncio.run(_version_now(url, config))


def download(
    url: str, path: Path, config: CrawlConfig, tell: Tell = lambda *_: None, known: str = ""
) -> str | None:
    """Bring a file to ``path``, going on from what is there; returns the server's name of its version.

    None, and no file, where the version is still the ``known`` one. Pieces go to ``path`` with a dot before
    its name until all are there; a file that changed in between is begun again. Raises DownloadError (can
    succeed next time) or GoneError (cannot).
    """
    return asyncio.run(_download(url, path, config, tell, known))


async def _small(url: str, config: CrawlConfig, limit: int) -> bytes:
    async with Fetcher(config) as fetcher:
        answer = await _get(fetcher, url, Want(limit=limit))
        if answer.status != 200:
            raise _refusal(url, answer.status)
        return answer.body


async def _version_now(url: str, config: CrawlConfig) -> str:
    headers = {"Accept-Encoding": "identity", "Range": "bytes=0-0"}
    async with Fetcher(config) as fetcher:
        answer = await _get(fetcher, url, Want(headers=headers, accept=lambda _status, _headers: False))
        if answer.status in NEED_A_TOKEN:
            return ""
        if answer.status not in (200, 206):
            raise _refusal(url, answer.status)
        return _version(answer)


async def _download(url: str, path: Path, config: CrawlConfig, tell: Tell, known: str) -> str | None:
    partial, note = path.with_name(f".{path.name}"), path.with_name(f".{path.name}.version")
    version, restarts = note.read_text() if note.exists() else "", 0
    async with Fetcher(config) as fetcher:
        while True:
            have = partial.stat().st_size if partial.exists() else 0
            headers = {"Accept-Encoding": "identity"}
            if restarts < RESTARTS:
                headers["Range"] = f"bytes={have}-{have + PIECE - 1}"
            if known and not have:
                headers |= _condition(known)
            answer = await _get(fetcher, url, Want(headers=headers, limit=PIECE, sink=partial))
            if answer.status == 304:
                return None
            if answer.status == 416 and have:
                break  # all of it is here
            if answer.status not in (200, 206):
                raise _refusal(url, answer.status)
            found = _version(answer)
            whole = answer.status == 200
            if not (whole or answer.body):
                raise DownloadError(f"{url}: the server sends nothing from byte {have:,} on")
            if have and found != version and not whole:
                partial.unlink()
                version, restarts = found, restarts + 1
                continue
            version = found
            note.write_text(version)
            if not whole:
                with partial.open("ab") as file:
                    file.write(answer.body)
            have, total = partial.stat().st_size, _total(answer)
            tell(have / 2**20, total / 2**20 if total else None, "MB")
            if whole or (total is not None and have >= total):
                break
    partial.rename(path)
    note.unlink()
    return version


async def _get(fetcher: Fetcher, url: str, want: Want) -> Response:
    """A response with redirects followed; each is checked as the first address is."""
    try:
        for _ in range(fetcher.config.max_redirects + 1):
            answer = await fetcher.get(url, want)
            target = redirect_target(answer.headers, url)
            if answer.status not in REDIRECTS or not target:
                return answer
            url = target
    except FetchError as error:
        kind = DownloadError if error.reason in ("network", "timed_out") else GoneError
        raise kind(f"{url}: {error.reason}: {error.detail}") from None
    raise GoneError(f"{url}: more than {fetcher.config.max_redirects} redirects")


def _refusal(url: str, status: int) -> Exception:
    kind = DownloadError if status in RETRY_STATUSES else GoneError
    return kind(f"{url}: the server answers {status}")


def _version(answer: Response) -> str:
    """The entity tag, or what else the server says of the version; empty where it says nothing."""
    headers = answer.headers
    return headers.get("etag") or f"{headers.get('last-modified', '')} {_total(answer) or ''}".strip()


def _condition(known: str) -> dict[str, str]:
    """The header that asks for a file only if it is not the version that :func:`_version` named."""
    dated = _DATED.fullmatch(known)
    return {"If-Modified-Since": dated[1]} if dated else {"If-None-Match": known}


def _total(answer: Response) -> int | None:
    headers = answer.headers
    if answer.status == 206:
        found = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("content-range", ""))
        return int(found[1]) if found else None
    length = headers.get("content-length", "")
    return int(length) if length.isdigit() else None
