"""What a run would do, before it does it: which stages are cached, which run, and why."""

from __future__ import annotations

from flows.config import KEYS_OF_STAGES, PipelineConfig
from flows.pipeline import mill
from flows.runs import earlier_recipes
from storage.store import open_store
from tasks.planning import Plan, planning


def explain(config: PipelineConfig) -> Plan:
    """Go through the pipeline's calls without making anything; the plan's steps say what would happen."""
    store = open_store()
    plan = Plan(store, earlier_recipes(store, config.name), KEYS_OF_STAGES)
    with planning(plan):
        mill(config)
    return plan
