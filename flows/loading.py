"""From a preset, a YAML file and ``--set`` options to one checked configuration.

Every complaint is made at once, before any work: the field's path, what was found, what is allowed.
"""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flows.config import PipelineConfig
from flows.presets import PRESETS

SUGGESTED = 3
"""Places of a key's name that are suggested at most where it was written without its section."""


BOOL = "tag:yaml.org,2002:bool"
UNREADABLE = (yaml.YAMLError, ValueError, AttributeError, RecursionError)
"""What PyYAML raises, also of a date such as 2024-13-45, a number such as 0x_ and brackets without end."""


class _Yaml(yaml.SafeLoader):
    """YAML 1.2's idea of truth: ``on``, ``off``, ``yes`` and ``no`` are words, as in ``compile: on``."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as the base class has it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != BOOL or first in "tTfF"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists every complaint on its own line."""


def load_config(preset: str = "tiny", file: Path | None = None, sets: Sequence[str] = ()) -> PipelineConfig:
    """A preset, overlaid by a YAML file, overlaid by ``path=value`` settings (values are YAML).

    Raises ConfigError with every complaint.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"preset {preset!r} is unknown; there are: {', '.join(PRESETS)}{_suggest(preset, PRESETS)}"
        )
    wanted: dict[str, Any] = _read_yaml(file) if file is not None else {}
    for setting in sets:
        _overlay(wanted, _parse_set(setting))
    values = _preset(preset, wanted.get("sources")).model_dump(mode="json")
    _overlay(values, wanted)
    return check(values)


def _preset(name: str, sources: Any) -> PipelineConfig:
    """A preset for the sources that were asked for; what are no sources is left to the check."""
    usable = isinstance(sources, list) and sources and all(isinstance(source, str) for source in sources)
    return PRESETS[name](sources) if usable else PRESETS[name]()


def check(values: Mapping[str, Any]) -> PipelineConfig:
    """Validate plain values into a configuration; raises ConfigError with every complaint."""
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        complaints = [_complaint(detail) for detail in error.errors()]
        raise ConfigError(
            "The configuration cannot be used:\n" + "\n".join(f"  {c}" for c in complaints)
        ) from None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _Yaml)
    except FileNotFoundError:
        raise ConfigError(f"The configuration file {file} does not exist.") from None
    except OSError as error:  # a folder, or a file of somebody else's
        raise ConfigError(f"The configuration file {file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file} is not YAML: byte {error.start + 1:,} is no UTF-8; save it as UTF-8."
        ) from None
    except UNREADABLE as error:
        raise ConfigError(f"{file} is not YAML: {_problem(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{file} must hold a mapping of sections, such as `train:`; found {type(values).__name__}."
        )
    return values


def _problem(error: Exception) -> str:
    """What YAML's parser found and where, in one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"{getattr(error, 'problem', error)}, in line {mark.line + 1}, column {mark.column + 1}"


def _parse_set(setting: str) -> dict[str, Any]:
    path, equals, text = setting.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set {setting!r} must read path=value, such as --set train.steps=50.")
    try:
        value: Any = yaml.load(text, _Yaml)
    except UNREADABLE as error:
        raise ConfigError(f"--set {path}: the value {text!r:.80} is not YAML: {_problem(error)}") from None
    for name in reversed(path.strip().split(".")):
        value = {name: value}
    return typing.cast(dict[str, Any], value)


def _overlay(base: dict[str, Any], top: Mapping[str, Any]) -> None:
    for name, value in top.items():
        if isinstance(value, Mapping) and isinstance(base.get(name), dict):
            _overlay(base[name], value)
        else:
            base[name] = value


def _complaint(detail: ErrorDetails) -> str:
    path = ".".join(str(piece) for piece in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key{_suggest_key(path, [str(piece) for piece in detail['loc']])}"
    message = detail["msg"].removeprefix("Value error, ")
    if not path:  # of settings that do not go together: the message names them
        return message
    if detail["type"] in ("list_type", "tuple_type"):
        message = f"input should be a list{_as_list(detail['input'])}"
    return f"{path}: found {detail['input']!r:.80}; {message[:1].lower()}{message[1:]}"


def _as_list(found: Any) -> str:
    """An example made of what was written in a list's place: a value, or names with their values."""
    if isinstance(found, Mapping):
        found = [f"{name}={value}" for name, value in found.items()]
    elif isinstance(found, str | int | float):
        found = [found]
    else:
        return ""
    return f", such as {json.dumps(found, ensure_ascii=False)}"


def _suggest(name: str, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _suggest_key(path: str, pieces: Sequence[str]) -> str:
    """A hint at the key that was meant: one of its section that reads alike, else its name elsewhere."""
    fields = list(_fields(PipelineConfig))
    section, name = pieces[:-1], pieces[-1]
    beside = {field[-1] for field in fields if field[:-1] == tuple(section)}
    same = [".".join(field) for field in fields if field[-1] == name]
    near = difflib.get_close_matches(name, beside, n=1, cutoff=0.5 if section else 0.7)
    if near:
        return f"; did you mean {path.removesuffix(name)}{near[0]}?"
    if same:
        return f"; did you mean {' or '.join(same[:SUGGESTED])}?"
    return _suggest(path, (".".join(field) for field in fields))


def _fields(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all fields of a model and of the models in it, sections before their fields."""
    for name, field in model.model_fields.items():
        yield (*above, name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, (*above, name))
