"""What decides a stage's result, as stable digests: its code and its arguments.

Code: the stage's own module and every module of ours that it builds on, found by reading imports (also
those inside functions), so that a changed helper counts and nobody has to remember to name it. Comments,
docstrings and layout do not count. Left out are the modules whose effect is already in the key: config
models (their values are in it) and the machinery that only stores, schedules or shows.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from storage.artifacts import Artifact
from storage.errors import UnstableInputError
from tasks.source_code import kept_codes

CODE_PACKAGES = ("tasks.web", "tasks.text", "tasks.tokens", "tasks.gpt", "tasks.evals", "tasks.serving")
CODE_FORMATS = (
    *("storage.schemas", "storage.documents", "storage.columns", "storage.token_shards"),
    "tasks.train_process",
)
ROOTS = frozenset({"flows", "tasks", "storage"})
_reading = Lock()
"""Parts start side by side: one reads the code, and the others wait for it instead of reading it too."""


def affects_result(field: FieldInfo) -> bool:
    """Whether a config field decides what comes out; speed-only fields say that they do not."""
    extra = field.json_schema_extra
    return not (isinstance(extra, dict) and extra.get("affects_result") is False)


def canonical(value: Any, where: str) -> Any:
    """A JSON value that is equal exactly when two arguments mean the same to a stage.

    Raises UnstableInputError, naming the argument, for what has no stable form (an open file, a
    function, a set, a NaN).
    """
    if isinstance(value, Artifact):
        return {"artifact": value.kind, "digest": value.digest}
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: canonical(getattr(value, name), f"{where}.{name}")
            for name, field in fields.items()
            if affects_result(field)
        }
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: canonical(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise UnstableInputError(
        f"{where} is {value!r:.80} of type {type(value).__name__}, which has no stable fingerprint, so a "
        f"cached result could be stale. Pass an artifact, a config model, or plain JSON values."
    )


def code_digests(module: str) -> dict[str, str]:
    """Digest of a stage module and of each module of ours that decides its result, by module name."""
    digests: dict[str, str] = {}
    queue = [module]
    with _reading:
        while queue:
            name = queue.pop()
            if name in digests:
                continue
            digests[name], used = read_code(name)
            queue += filter(_counts, used)
        kept_codes().keep()
    return dict(sorted(digests.items()))


@cache
def read_code(name: str) -> tuple[str, frozenset[str]]:
    """A module's digest and the modules of ours that it imports; read once for all stages that use it."""
    code = kept_codes().read(name, _source(name))
    used = (_submodule(module, part) for module, part in code.imports if module.partition(".")[0] in ROOTS)
    return code.digest, frozenset(used)


def _counts(name: str) -> bool:
    if name.rpartition(".")[2].endswith("config"):
        return False
    return name in CODE_FORMATS or name.startswith(tuple(f"{package}." for package in CODE_PACKAGES))


def _source(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise UnstableInputError(f"the source of module {name} cannot be found, so its code has no digest")
    return Path(spec.origin)


@cache
def _submodule(package: str, name: str) -> str:
    """``from package import name``: the module that holds ``name``; the package where there is no name."""
    spec = importlib.util.find_spec(package)
    if name and spec is not None and spec.submodule_search_locations is not None:
        try:
            if importlib.util.find_spec(f"{package}.{name}") is not None:
                return f"{package}.{name}"
        except ModuleNotFoundError:
            pass
    return package
