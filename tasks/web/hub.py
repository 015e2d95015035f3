"""Datasets of the Hugging Face Hub: which commit a name stands for now, and what its card says it has."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WAITS_S = (1.0, 3.0)
"""Between attempts to ask a Hub that does not answer."""
TIMEOUT_S = 15.0
CONFIGS_NAMED = 20
"""Configurations that an error lists at most."""
_REFUSALS = frozenset({401, 403, 404})
_COMMIT = re.compile("[0-9a-f]{40}")


class HubError(ValueError):
    """A dataset that the Hub does not have, or not for us."""


class HubAwayError(HubError):
    """A Hub that cannot be asked now."""


@dataclass(frozen=True)
class HubDataset:
    """A dataset as of one commit."""

    commit: str
    """40 hex digits."""
    configs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The splits of each configuration that its card names, none where it leaves them to file names."""
    default: str | None = None
    """The configuration that is read where none is named; None where one must be."""

    def check(self, config: str | None, split: str) -> None:
        """Raise HubError where the card tells that there is no such configuration or split."""
        name = config if config is not None else self.default
        if self.configs and name not in self.configs:
            listed = ", ".join(sorted(self.configs)[:CONFIGS_NAMED])
            wrong = "several configurations" if name is None else f"no configuration {name!r}"
            raise HubError(f"the dataset has {wrong}; name one with config=…: {listed}")
        splits = self.configs.get(name or "", frozenset())
        if splits and (missing := sorted(named_splits(split) - splits)):
            raise HubError(f"the dataset has no split {missing[0]!r}; it has {', '.join(sorted(splits))}")


def named_splits(split: str) -> set[str]:
    """The splits that ``train``, ``train+test`` or ``all`` names; none for all of them."""
    return {name.strip() for name in split.split("+")} if split != "all" else set()


def asked_dataset(name: str, revision: str) -> HubDataset:
    """A dataset as its branch or tag (empty for the main branch) has it now.

    One that is named by a commit needs no asking. The Hub is the one that HF_ENDPOINT names, asked with the
    token in HF_TOKEN, where these are set. Raises HubError.
    """
    if _COMMIT.fullmatch(revision):
        return HubDataset(revision)
    for wait in WAITS_S:
        try:
            return _asked(name, revision)
        except HubAwayError:
            time.sleep(wait)
    return _asked(name, revision)


def _asked(name: str, revision: str) -> HubDataset:
    from huggingface_hub import HfApi, errors  # it brings an HTTP client

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        found = api.dataset_info(name, revision=revision or None, timeout=TIMEOUT_S)
        stated = found.card_data.get("configs") if found.card_data else None
        return HubDataset(str(found.sha), *_configs(stated))
    except errors.RevisionNotFoundError as error:
        raise HubError(f"the dataset {name!r} has no revision {revision!r}") from error
    except errors.HFValidationError as error:
        raise HubError(f"{name!r} is no dataset's name; write owner/name") from error
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in _REFUSALS:
            raise HubError(
                f"the Hub has no dataset {name!r}, or not for everyone: a private or gated one needs a token "
                f"that may read it in HF_TOKEN"
            ) from error
        why = str(error).partition("\n")[0][:200]
        raise HubAwayError(
            f"{api.endpoint} cannot be asked for the version of {name!r} ({why}); revision=COMMIT, of 40 "
            f"digits, needs no asking"
        ) from error


def _configs(stated: Any) -> tuple[dict[str, frozenset[str]], str | None]:
    """The configurations that a dataset's card names, and the default one, by the rules of ``datasets``."""
    entries = [entry for entry in stated if isinstance(entry, dict)] if isinstance(stated, list) else []
    names = [str(entry.get("config_name", "default")) for entry in entries]
    configs = {name: _splits(entry.get("data_files")) for name, entry in zip(names, entries, strict=True)}
    marked = [name for name, entry in zip(names, entries, strict=True) if entry.get("default")]
    if len(configs) == 1:
        return configs, next(iter(configs))
    return configs, "default" if "default" in configs else next(iter(marked), None)


def _splits(files: Any) -> frozenset[str]:
    """The splits that a configuration names for its files."""
    if isinstance(files, list) and files and all(isinstance(each, dict) for each in files):
        return frozenset(str(each.get("split", "train")) for each in files)
    return frozenset()
