"""Whether a service answers, asked over HTTP with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from typing import Any

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback is never behind a proxy, whatever the environment says."""


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether a GET of ``url`` ends with status 200 in time."""
    try:
        with _DIRECT.open(url, timeout=timeout_s) as response:
            return bool(response.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False


def authorization() -> dict[str, str]:
    """The header for a Prefect server that asks for a login (PREFECT_API_AUTH_STRING, ``user:password``)."""
    login = os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    return {"authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}


def get(url: str, timeout_s: float = 5.0) -> Any:
    """GET a JSON answer; None where there was none."""
    request = urllib.request.Request(url, headers=authorization())
    try:
        with _DIRECT.open(request, timeout=timeout_s) as response:
            return json.load(response)
    except (OSError, ValueError, urllib.error.URLError):
        return None


def post(url: str, body: dict[str, Any], timeout_s: float = 5.0) -> Any:
    """POST a JSON body and give the JSON answer; None where there was none."""
    headers = {"content-type": "application/json", **authorization()}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    try:
        with _DIRECT.open(request, timeout=timeout_s) as response:
            return json.load(response)
    except (OSError, ValueError, urllib.error.URLError):
        return None


def worker_online(api_url: str, pool: str, worker: str) -> bool:
    """Whether Prefect has heard from a worker of this name in this pool lately."""
    found = post(f"{api_url}/work_pools/{pool}/workers/filter", {})
    return any(entry["name"] == worker and entry["status"] == "ONLINE" for entry in found or [])
