"""Sources as strings, so that a form, a file and a command line hold the same thing, and what they name.

| string | what it names |
|---|---|
| ``pages/*.warc.gz``, ``folder/``, ``text.jsonl`` | local files: WARC, WET, HTML, JSON lines, Parquet |
| ``crawl:https://site/ https://other/`` | a crawl from these addresses |
| ``pydoc:stdlib,numpy`` | a crawl of the documentation that this Python serves |
| ``https://…/file.warc.gz``, ``s3://bucket/prefix/*.warc.gz`` | remote files of the same kinds |
| ``hf://owner/name?split=train&config=…`` | a Hugging Face dataset (or a local folder), streamed as of now |
| ``cc://CC-MAIN-2024-22?files=10&kind=wet`` | files of a Common Crawl, spread evenly over it |
"""

from __future__ import annotations

import glob
import sys
from collections import Counter
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from tasks.web.config import SPEED_ONLY, IngestConfig
from tasks.web.fingerprints import Fingerprints, spelt
from tasks.web.hub import HubError, asked_dataset, named_splits
from tasks.web.pydoc_site import PydocError, pydoc_crawl
from tasks.web.readers import file_kind, files_below, kind_of, site_files
from tasks.web.rows import is_document, parse_dataset, unreadable
from tasks.web.urls import canonical_url

Kind = Literal["warc", "wet", "html", "jsonl", "parquet", "crawl", "pydoc", "http", "s3", "hf", "commoncrawl"]
FETCHED_KINDS = frozenset({"crawl", "pydoc", "http", "s3", "commoncrawl"})
FORMS = "a path or glob, crawl:https://…, pydoc:stdlib,numpy, https://…, s3://…, hf://…, cc://…"


class SourceError(ValueError):
    """A source string that names nothing that can be read; the message says what to write instead."""


class SourceRef(BaseModel):
    """One thing to read, and what tells whether it changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Stable label: the file's name, the crawl's first address."""
    kind: Kind
    uri: str = Field(json_schema_extra=SPEED_ONLY)
    """Where it is; not part of a cache key, so that a file may move."""
    fingerprint: str = ""
    """Digest of the content, or what the server calls its version; empty where only fetching can tell."""
    seeds: tuple[str, ...] = ()
    """A crawl's first addresses, or pydoc's packages."""

    @property
    def fetched(self) -> bool:
        """Whether it has to be fetched before it can be read."""
        return self.kind in FETCHED_KINDS


def resolve(source: str, config: IngestConfig, cache: Path | None = None) -> list[SourceRef]:
    """What a source string names, in a fixed order; ``cache`` keeps the digests of local files.

    Raises SourceError naming what is missing, empty or not understood, with the mend.
    """
    source = source.strip()
    scheme, colon, rest = source.partition(":")
    if colon and scheme.lower() in _SCHEMES:
        if not rest.strip(" /,"):
            raise SourceError(f"{source!r} names nothing; a source is {FORMS}")
        return _SCHEMES[scheme.lower()](source, rest.strip(), config, Fingerprints(cache))
    if colon and rest.startswith("//"):
        raise SourceError(f"{source!r}: no source has the scheme {scheme + '://'!r}; a source is {FORMS}")
    if not source:
        raise SourceError(f"an empty source; a source is {FORMS}")
    return _local(source, config, Fingerprints(cache))


def resolve_all(sources: list[str], config: IngestConfig, cache: Path | None = None) -> list[SourceRef]:
    """What all strings name, each thing once, names made unique.

    Raises SourceError, a line each, for all strings that :func:`resolve` refuses.
    """
    found: dict[tuple[str, str], SourceRef] = {}
    complaints: list[str] = []
    for source in sources:
        try:
            for ref in resolve(source, config, cache):
                found.setdefault((ref.kind, ref.uri), ref)
        except SourceError as error:
            complaints.append(str(error))
    if complaints:
        raise SourceError("\n".join(complaints))
    refs: dict[str, SourceRef] = {}
    counts: Counter[str] = Counter(ref.name for ref in found.values())
    numbers = dict.fromkeys(counts, 1)
    for ref in found.values():
        name = ref.name
        while name in refs or (name != ref.name and name in counts):
            numbers[ref.name] += 1
            name = _numbered(ref.name, numbers[ref.name])
        refs[name] = ref.model_copy(update={"name": name})
    return list(refs.values())


def _numbered(name: str, number: int) -> str:
    """Another name for one of the same: ``rows (2).jsonl``, as its ending tells how a file is read."""
    if not kind_of(name):
        return f"{name} ({number})"
    folder, slash, last = name.rpartition("/")
    stem, dot, endings = last.partition(".")
    return f"{folder}{slash}{stem} ({number}){dot}{endings}"


def _local(source: str, config: IngestConfig, fingerprints: Fingerprints) -> list[SourceRef]:
    path = Path(source).expanduser()
    if glob.has_magic(source) and not path.exists():
        paths = sorted(Path(found) for found in glob.glob(str(path), recursive=True))  # noqa: PTH207 (absolute)
        if not paths:
            raise SourceError(f"the glob {source!r} matches no file (looked from {Path.cwd()})")
        refs = [ref for found in paths for ref in _matched(found, source, config, fingerprints)]
        if not refs:
            raise SourceError(
                f"of what {source!r} matches ({len(paths):,}) none is of a kind that can be read: {_KINDS}"
            )
        return refs
    if not path.exists():
        raise SourceError(f"there is no file or folder {source!r} (looked from {Path.cwd()})")
    return _path(path, source, config, fingerprints)


_KINDS = ".warc, .wet, .jsonl (each also .gz and .zst), .parquet, .html"


def _matched(path: Path, source: str, config: IngestConfig, fingerprints: Fingerprints) -> list[SourceRef]:
    """As :func:`_path`, of what a glob matches: what is of no kind to be read there is passed over."""
    if path.is_dir():
        return _folder(path, source, config, fingerprints)
    return _path(path, source, config, fingerprints) if file_kind(path) else []


def _path(path: Path, source: str, config: IngestConfig, fingerprints: Fingerprints) -> list[SourceRef]:
    if path.is_dir():
        if refs := _folder(path, source, config, fingerprints):
            return refs
        raise SourceError(f"the folder {source!r} holds no file of a kind that can be read: {_KINDS}")
    if not path.exists():
        raise SourceError(
            f"{path} is a link to what is not there, named in {source!r}; bring it, or remove it"
        )
    kind = file_kind(path)
    if not kind:
        raise SourceError(f"{path}: of no kind that can be read ({_KINDS}), named in {source!r}")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes), named in {source!r}")
    return [_file(path, kind, source, config, fingerprints)]


def _folder(folder: Path, source: str, config: IngestConfig, fingerprints: Fingerprints) -> list[SourceRef]:
    """A folder's data files, each by itself, and its pages together.

    JSON that is no rows, as sites keep for their scripts, is passed over beside pages.
    """
    kinds = [(found, kind_of(found.name)) for found in files_below(folder)]
    with_pages = site_files(folder)
    pages = [found for found in with_pages if file_kind(found)]
    refs = [
        _file(file, kind, source, config, fingerprints)
        for file, kind in kinds
        if kind not in ("", "html") and not (pages and is_document(file))
    ]
    if pages:
        others = set(with_pages).difference(pages)
        refs.append(_ref(folder, "html", fingerprints.of_folder(folder, pages, others)))
    return refs


def _file(path: Path, kind: str, source: str, config: IngestConfig, fingerprints: Fingerprints) -> SourceRef:
    if wrong := unreadable(path, kind, config):
        raise SourceError(f"{path}, named in {source!r}, {wrong}")
    return _ref(path, kind, fingerprints.of_file(path))


def _ref(path: Path, kind: str, fingerprint: str) -> SourceRef:
    if spelt(path.resolve()) != path.resolve().as_posix():
        raise SourceError(f"{spelt(path)}: its name is no UTF-8; give it another name")
    name = path.name if path.name.strip(".") else path.resolve().name or "/"  # the folder may be "." or ".."
    return SourceRef.model_validate(
        {"name": name, "kind": kind, "uri": str(path.resolve()), "fingerprint": fingerprint}
    )


def _crawl(source: str, rest: str, config: IngestConfig, _: Fingerprints) -> list[SourceRef]:
    seeds = tuple(rest.replace(",", " ").split())
    wrong = [seed for seed in seeds if not canonical_url(seed)]
    if wrong:
        raise SourceError(f"{source!r}: {wrong[0]!r} is no http:// or https:// address to crawl from")
    seeds = tuple(map(canonical_url, seeds))
    return [SourceRef(name=seeds[0].partition("//")[2].rstrip("/"), kind="crawl", uri=source, seeds=seeds)]


def _pydoc(source: str, rest: str, config: IngestConfig, _: Fingerprints) -> list[SourceRef]:
    packages = tuple(rest.replace(",", " ").split())
    try:
        pydoc_crawl(packages, config.crawl)
    except PydocError as error:
        raise SourceError(f"{source!r}: {error}") from None
    version = ".".join(map(str, sys.version_info[:3]))
    return [SourceRef(name=source, kind="pydoc", uri=source, fingerprint=version, seeds=packages)]


def _dataset(source: str, rest: str, config: IngestConfig, fingerprints: Fingerprints) -> list[SourceRef]:
    try:
        name, options = parse_dataset(source)
    except ValueError as error:
        raise SourceError(str(error)) from None
    if not name.strip("/"):
        raise SourceError(f"{source!r} names no dataset; write hf://owner/name or hf:///path/to/folder")
    if (folder := Path(name)).is_dir():
        fingerprint = fingerprints.of_folder(folder, [f for f in folder.rglob("*") if f.is_file()])
    elif name.startswith("/"):
        raise SourceError(f"{source!r}: there is no folder {name}")
    elif "data_files" in options and "/" not in name:
        if named_splits(split := options.get("split", "train")) - {"train"}:
            raise SourceError(f"{source!r}: of data_files all is in the split 'train', not in {split!r}")
        fingerprint = _data_files(source, options["data_files"], config, fingerprints)
    else:
        try:
            found = asked_dataset(name, options.get("revision", ""))
            if "data_files" not in options:
                found.check(options.get("config"), options.get("split", "train"))
        except HubError as error:
            raise SourceError(f"{source!r}: {error}") from error
        # What is read is what was asked after, though the branch move on meanwhile.
        uri = f"hf://{name}?{urlencode(options | {'revision': found.commit})}"
        return [SourceRef(name=source, kind="hf", uri=uri, fingerprint=found.commit)]
    return [SourceRef(name=source, kind="hf", uri=source, fingerprint=fingerprint)]


def _data_files(source: str, named: str, config: IngestConfig, fingerprints: Fingerprints) -> str:
    """A digest of the files that a loader is given, or what a server calls the version of one; empty where
    none can be told, and the file is read once."""
    if named.startswith(("http://", "https://")):
        from tasks.web.download import DownloadError, GoneError, version_of  # it brings an HTTP client

        try:
            return version_of(named, config.for_files())
        except (DownloadError, GoneError) as error:
            raise SourceError(f"{source!r}: {error}") from error
    if "://" in named:
        return ""
    found = sorted(Path(match).resolve() for match in glob.glob(named, recursive=True))  # noqa: PTH207 (absolute)
    files = [file for file in found if file.is_file()]
    if not files:
        raise SourceError(f"{source!r}: data_files {named!r} matches no file (looked from {Path.cwd()})")
    return fingerprints.of_folder(Path("/"), files)


def _http(source: str, rest: str, config: IngestConfig, _: Fingerprints) -> list[SourceRef]:
    name = urlsplit(source).path.rpartition("/")[2]
    if not kind_of(name):
        raise SourceError(
            f"{source!r} names no file of a kind that can be read ({_KINDS}); "
            f"to crawl a site, write 'crawl:{source}'"
        )
    return [SourceRef(name=name, kind="http", uri=source, seeds=(canonical_url(source) or source,))]


def _s3(source: str, rest: str, config: IngestConfig, _: Fingerprints) -> list[SourceRef]:
    from tasks.web.buckets import BucketError, list_objects

    try:
        objects = [found for found in list_objects(source) if kind_of(found.key)]
    except BucketError as error:
        raise SourceError(f"{source!r}: {error}") from error
    if not objects:
        raise SourceError(f"{source!r} matches no object of a kind that can be read: {_KINDS}")
    return [
        SourceRef(name=o.key.rpartition("/")[2], kind="s3", uri=o.uri, fingerprint=o.version, seeds=(o.uri,))
        for o in objects
    ]


def _common_crawl(source: str, rest: str, config: IngestConfig, _: Fingerprints) -> list[SourceRef]:
    from tasks.web.common_crawl import CommonCrawlError, chosen_files  # it brings an HTTP client

    try:
        addresses = chosen_files(source, config)
    except CommonCrawlError as error:
        raise SourceError(f"{source!r}: {error}") from error
    return [
        SourceRef(name=address.rpartition("/")[2], kind="commoncrawl", uri=address, seeds=(address,))
        for address in addresses
    ]


_SCHEMES = {
    "crawl": _crawl,
    "pydoc": _pydoc,
    "hf": _dataset,
    "http": _http,
    "https": _http,
    "s3": _s3,
    "cc": _common_crawl,
}
