"""From a preset, a YAML file and ``--set`` options to one checked configuration.

Every complaint is made at once, before any work: the field's path, what was found, what is allowed.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flows.config import PipelineConfig
from flows.presets import PRESETS


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists every complaint on its own line."""


def load_config(preset: str = "tiny", file: Path | None = None, sets: Sequence[str] = ()) -> PipelineConfig:
    """A preset, overlaid by a YAML file, overlaid by ``path=value`` settings (values are YAML).

    Raises ConfigError with every complaint.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"preset {preset!r} is unknown{_suggest(preset, PRESETS)}. There are: {', '.join(PRESETS)}."
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
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"The configuration file {file} does not exist.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{file} must hold a mapping of sections, such as `train:`; found {type(values).__name__}."
        )
    return values


def _parse_set(setting: str) -> dict[str, Any]:
    path, equals, text = setting.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set {setting!r} must read path=value, such as --set train.steps=50.")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: the value {text!r} is not YAML: {error}") from None
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
        parent, name = _fields_at(detail["loc"][:-1]), str(detail["loc"][-1])
        prefix = path.removesuffix(name)
        return f"{path}: unknown key{_suggest(name, parent, prefix)}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{path}: found {detail['input']!r:.80}; {message[:1].lower()}{message[1:]}"


def _suggest(name: str, known: typing.Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _fields_at(path: Sequence[int | str]) -> list[str]:
    """Field names of the model at a path inside the configuration."""
    model: type[BaseModel] = PipelineConfig
    for piece in path:
        field = model.model_fields.get(str(piece))
        inner = field.annotation if field else None
        if (
            isinstance(inner, types.GenericAlias)
            or not isinstance(inner, type)
            or not issubclass(inner, BaseModel)
        ):
            return []
        model = inner
    return list(model.model_fields)
