"""Runs that Prefect believes to be running though their process is gone: marked Crashed, their slots freed.

A worker that was killed tells nobody what became of its runs. The stack that starts the next one knows
which processes live, so it need not wait for the silence that the zombie automation waits for.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flows.health import post

MESSAGE = "The process of this run is gone. Run it again: it goes on from what is in the store."


def end_lost_runs(api_url: str, pool: str, alive: Collection[str]) -> list[str]:
    """Mark Crashed the pool's unfinished runs that are not among the ids ``alive``; gives the names of those
    that the server has marked."""
    query = {
        "work_pools": {"name": {"any_": [pool]}},
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}},
    }
    found: list[dict[str, Any]] = post(f"{api_url}/flow_runs/filter", query) or []
    lost = [run for run in found if run["id"] not in alive]
    state = {"type": "CRASHED", "name": "Crashed", "message": MESSAGE}
    return [
        run["name"]
        for run in lost
        if post(f"{api_url}/flow_runs/{run['id']}/set_state", {"state": state, "force": True}) is not None
    ]
