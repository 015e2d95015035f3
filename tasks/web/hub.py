"""Datasets of the Hugging Face Hub: which commit a name stands for now."""

from __future__ import annotations

import os
import re
import time

WAITS_S = (1.0, 3.0)
"""Between attempts to ask a Hub that does not answer."""
TIMEOUT_S = 15.0
_REFUSALS = frozenset({401, 403, 404})
_COMMIT = re.compile("[0-9a-f]{40}")


class HubError(ValueError):
    """A dataset that the Hub does not have, or not for us."""


class HubAwayError(HubError):
    """A Hub that cannot be asked now."""


def commit_of(name: str, revision: str) -> str:
    """The commit that a dataset's branch or tag (empty for the main branch) points to, 40 hex digits.

    One that is a commit already needs no asking. The Hub is the one that HF_ENDPOINT names, asked with the
    token in HF_TOKEN, where these are set. Raises HubError.
    """
    if _COMMIT.fullmatch(revision):
        return revision
    for wait in WAITS_S:
        try:
            return _asked(name, revision)
        except HubAwayError:
            time.sleep(wait)
    return _asked(name, revision)


def _asked(name: str, revision: str) -> str:
    from huggingface_hub import HfApi, errors  # it brings an HTTP client

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        return str(api.dataset_info(name, revision=revision or None, timeout=TIMEOUT_S).sha)
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
