"""Digests of modules' code, and what modules import; kept from run to run beside Python's own bytecode.

Comments, docstrings and layout do not count. To parse a hundred modules takes longer than to find in the
store what they make, so what was read is kept, as Python keeps bytecode: by the source's own digest, in
``__pycache__``, where Python would write there too. It is never older than the source that it was read from.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from storage.errors import UnstableInputError


class Code(NamedTuple):
    """What there is to know of a module's code."""

    digest: str
    imports: tuple[tuple[str, str], ...]
    """Modules that it imports from, anywhere, each with what it imports; empty for the whole module."""


class KnownCode:
    """Code by the digest of its source, in a file that other processes read and write as well."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._codes: dict[str, Code] | None = None
        self._new: dict[str, Code] = {}

    def read(self, module: str, path: Path) -> Code:
        """The code of a module, parsed if it is not known; raises UnstableInputError for relative imports."""
        source = path.read_bytes()
        key = f"{module} {hashlib.sha256(source).hexdigest()}"
        if self._codes is None:
            self._codes = self._load()
        if key not in self._codes:
            self._codes[key] = self._new[key] = parse(module, source)
        return self._codes[key]

    def keep(self) -> None:
        """Write what is new, each module's last source alone; where nothing can be written, do without."""
        if not self._new or sys.dont_write_bytecode:
            return
        codes = self._load() | self._new
        last = {key.partition(" ")[0]: key for key in codes}
        content = {"reader": _reader(), "codes": {key: codes[key] for key in last.values()}}
        self._new = {}
        with suppress(OSError):
            self._file.parent.mkdir(exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=self._file.parent, prefix=self._file.name)
            with os.fdopen(handle, "w") as file:
                json.dump(content, file)
            Path(draft).replace(self._file)

    def _load(self) -> dict[str, Code]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(self._file.read_bytes())
            if content["reader"] == _reader():
                return {
                    key: Code(digest, tuple((module, name) for module, name in imports))
                    for key, (digest, imports) in content["codes"].items()
                }
        return {}


@cache
def kept_codes() -> KnownCode:
    """What is known of this version's code, under this Python; one for the process."""
    return KnownCode(Path(importlib.util.cache_from_source(__file__)).with_suffix(".json"))


@cache
def _reader() -> str:
    """What decides how code is read: this module, and the parser."""
    return hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode()).hexdigest()


def parse(module: str, source: bytes) -> Code:
    """A module's code; raises UnstableInputError for relative imports."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    imports = tuple(sorted(set(_imports(nodes, module))))  # before docstrings go, which may be all of a body
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [s for s in node.body if not _is_bare_string(s)] or [ast.Pass()]
    return Code(hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16], imports)


def _imports(nodes: list[ast.AST], module: str) -> Iterator[tuple[str, str]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module:
                raise UnstableInputError(f"{module} uses a relative import; name the module in full")
            yield from ((node.module, alias.name) for alias in node.names)


def _is_bare_string(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
