"""Rows of REJECTS for what had no text yet when it was set aside."""

from __future__ import annotations

import hashlib
from typing import Any

from tasks.web.urls import host_of


def reject_row(stage: str, url: str, reason: str, detail: str, identity: str) -> dict[str, Any]:
    """A row without language, value and excerpt; its ``doc_id`` is a digest of ``identity``."""
    return {
        "doc_id": hashlib.sha256(identity.encode()).hexdigest(),
        "url": url,
        "domain": host_of(url),
        "language": "",
        "stage": stage,
        "reason": reason,
        "value": None,
        "threshold": None,
        "detail": detail[:1000],
        "excerpt": "",
    }
