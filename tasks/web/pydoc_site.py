"""A real web site that every Python has: the documentation that pydoc's own HTTP server serves.

The standard library and numpy: some 640 pages, 22 MB of HTML. The server runs in a process of its own on
loopback, with hash randomisation off so that the pages are the same at every crawl, and ends when this
process does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

from tasks.web.config import CrawlConfig

STDLIB = "stdlib"
EXCLUDED = ("antigravity", "this", "idlelib", "turtledemo", "test", "tkinter", "lib2to3", "encodings")
"""Modules whose import opens a browser, prints or needs a display; tests; and thousands of pages' worth of
tables and inherited methods."""
EXCLUDED_PARTS = r"\.(_|tests?\b|testing\b|matlib\b|conftest\b|distutils\b|f2py\b)"
"""Submodules that are private, deprecated or tests."""

SERVERS = 2
"""Servers of the same pages: each writes one page at a time, and takes 20 s of processor for all of them."""
HOST = "pydoc.localhost"
"""The site's name in every address, whatever port its server got."""

# Standard input ends when the parent dies, however it dies. pydoc imports a module anew for every page, which
# numpy refuses and which makes pages depend on the order of requests; and memory addresses would make every
# crawl find changed pages: both are kept from it.
_SERVER = r"""
import os, pydoc, re, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
locate = pydoc.locate
pydoc.locate = lambda path, forceload=0: locate(path)
address = re.compile(r"((?:at(?:&nbsp;| )0x|handle(?:&nbsp;| ))[0-9a-f]{6,16})")
def page(url, content_type="text/html"):
    return address.sub("...", pydoc._url_handler(url, content_type))
server = pydoc._start_server(page, "127.0.0.1", 0)
print(server.port if server.serving else f"error: {server.error}", flush=True)
server.join()
"""


class PydocError(RuntimeError):
    """The pydoc server did not start, or a package is not there."""


@contextmanager
def pydoc_servers(count: int = SERVERS) -> Iterator[list[int]]:
    """Run pydoc's HTTP server ``count`` times while the block runs; yields the ports on loopback.

    Raises PydocError where one does not start.
    """
    with ExitStack() as running:
        processes = [running.enter_context(_server()) for _ in range(count)]
        yield [_port(process) for process in processes]


@contextmanager
def _server() -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore", "BROWSER": "true"}
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _SERVER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _port(process: subprocess.Popen[str]) -> int:
    line = process.stdout.readline().strip() if process.stdout else ""
    if not line.isdigit():
        raise PydocError(f"pydoc's server did not start: {line or 'it ended without a word'}")
    return int(line)


def pydoc_crawl(packages: Sequence[str], config: CrawlConfig) -> tuple[list[str], CrawlConfig]:
    """Seeds and config of a crawl of these packages' pages; ``stdlib`` stands for the standard library.

    Raises PydocError naming a package that cannot be imported.
    """
    names: list[str] = []
    for package in packages:
        if package != STDLIB and find_spec(package) is None:
            raise PydocError(f"there is no package {package!r} to document; install it or leave it out")
        names += sorted(set(sys.stdlib_module_names) - set(EXCLUDED)) if package == STDLIB else [package]
    modules = "|".join(re.escape(name) for name in names)
    topics = [rf"^http://{HOST}/topic\?key="] if STDLIB in packages else []
    seeds = [f"http://{HOST}/{page}.html" for page in ("topics", "keywords")] if STDLIB in packages else []
    seeds += [f"http://{HOST}/{name}.html" for name in packages if name != STDLIB]
    settings = {
        "include": (rf"^http://{HOST}/({modules})(\.\w+)*\.html$", *topics),
        "exclude": (EXCLUDED_PARTS,),
        "scope": "host",
        "robots": False,
        "sitemaps": False,
        "host_delay_seconds": 0.0,
        "host_concurrency": 2 * SERVERS,
    }
    return [f"http://{HOST}/index.html", *seeds], config.model_copy(update=settings)
