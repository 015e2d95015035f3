"""Where a run's parts go: its parameters decide, and what comes out is the same everywhere."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.context import FlowRunContext

from flows.config import CorpusConfig, RunConfig
from flows.runners import placed, task_runner
from tasks.journal import Journal, keeping

PARTS = 4


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four files of pages, some of which are each other's copies."""
    folder = tmp_path_factory.mktemp("sources")
    for part in range(PARTS):
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            for page in range(20):
                text = " ".join(
                    f"The word {part * 7 + page * 3 + line} of page {page} is here to be read with care."
                    for line in range(12)
                )
                file.write(json.dumps({"url": f"http://site{part}.example/{page}", "text": text}) + "\n")
    return str(folder / "*.jsonl")


@task
def process_id() -> int:
    """Long enough that one process does not take all of them."""
    time.sleep(1.0)
    return os.getpid()


@flow(persist_result=False)
def gathered(config: CorpusConfig) -> tuple[dict[str, str], set[int]]:
    """Digest by stage and part of the pipeline's first half, and in which processes parts are worked on."""
    from flows.pipeline import gather

    with keeping(Journal()) as journal, placed(config.run):
        gather(config)
        processes = {future.result() for future in [process_id.submit() for _ in range(PARTS)]}
    made = [entry for entry in journal.entries if entry.artifact is not None]
    assert {entry.state for entry in made} == {"completed"}
    return {f"{e.stage} {e.label}": e.artifact.digest for e in made if e.artifact is not None}, processes


def run_on(runner: str, sources: str, home: Path) -> tuple[dict[str, str], set[int]]:
    """The first half of the pipeline in a home of its own."""
    from tasks.text.config import CleanConfig
    from tasks.text.rules_config import FineWebConfig, RepetitionConfig

    made_up = CleanConfig(repetition=RepetitionConfig(enabled=False), fineweb=FineWebConfig(enabled=False))
    settings = RunConfig.model_validate({"task_runner": runner, "parts_at_once": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELMILL_HOME", str(home))
        return gathered(CorpusConfig(name="placed", sources=[sources], clean=made_up, run=settings))


@pytest.fixture(scope="module")
def by_threads(sources: str, prefect_api: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what threads of this process make."""
    digests, processes = run_on("threads", sources, tmp_path_factory.mktemp("threads"))
    assert processes == {os.getpid()}
    assert len([name for name in digests if name.startswith("clean")]) == PARTS
    return digests


@pytest.mark.parametrize("runner", ["ray", "dask"])
@pytest.mark.filterwarnings("default")  # the clusters' libraries' own
def test_parts_on_a_local_cluster_come_out_as_on_threads(
    runner: str, sources: str, by_threads: dict[str, str], tmp_path: Path
) -> None:
    if importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"prefect-{runner} is not installed (pip install 'modelmill[{runner}]')")
    digests, processes = run_on(runner, sources, tmp_path)
    assert digests == by_threads
    assert len(processes - {os.getpid()}) == 2


@flow
def seen(config: RunConfig) -> tuple[int, int]:
    """How many threads a flow's tasks get inside of the block, and whether it ends with the block."""
    before = FlowRunContext.get()
    with placed(config):
        inside = FlowRunContext.get()
        threads = inside.task_runner._max_workers if inside else 0  # type: ignore[attr-defined]
        process_id.submit().wait()
    return threads, FlowRunContext.get() is before


@pytest.mark.parametrize("threads", [1, 3])
def test_a_flows_parameters_decide_how_many_parts_run_at_once(prefect_api: None, threads: int) -> None:
    assert seen(RunConfig(parts_at_once=threads)) == (threads, True)


def test_a_runner_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install modelmill\[dask\]"):
        task_runner(RunConfig(task_runner="dask"))


def test_outside_of_a_flow_there_is_nothing_to_place() -> None:
    with pytest.raises(RuntimeError, match="inside of a flow run"), placed(RunConfig()):
        pass
