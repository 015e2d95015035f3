"""Real kills while text becomes a corpus: of workers, and of the whole process, in each stage in turn.

Whatever was killed and when, the same command afterwards leaves the very bytes of an undisturbed run.
"""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.web.warc_write import WarcWriter

NOON = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
PAGES = 40
LANGUAGES = {
    "en": "The keeper of the lighthouse saw {} boats and {} gulls before the wind rose from the west again.",
    "zh": "老灯塔的看守人那天看见了{}条船和{}只海鸥，后来从西边又吹来了很大的风，一直吹到晚上。",
    "fr": "Le gardien du phare vit {} bateaux et {} mouettes avant que le vent ne se lève à l'ouest.",
}
PROGRAM = """
import json, os, signal, sys
from collections import Counter
import psutil
from tasks import progress
from tasks.clean import clean
from tasks.deduplicate import deduplicate
from tasks.ingest import ingest
from tasks.text.config import CleanConfig
from tasks.text.dedup_config import DeduplicateConfig
from tasks.web.config import IngestConfig
from tasks.web.sources import resolve

given = json.loads(sys.argv[1])
progress.INTERVAL_S = 0.0
moments, seen, killed = given["moments"], Counter(), []

def at(event):
    seen[event.stage, event.state] += 1
    if [event.stage, event.state, seen[event.stage, event.state]] not in moments:
        return
    if given["victim"] == "process":
        os.kill(os.getpid(), signal.SIGKILL)
    for server in psutil.Process().children():
        if "pool_fork_server" in " ".join(server.cmdline()):
            for worker in server.children():
                worker.kill()
                killed.append(event.stage)

reading = IngestConfig.model_validate({"parallel": {"workers": 2}, "unit_bytes": 65536})
judging = CleanConfig.model_validate({
    "language": {"keep": ["zh", "en"]},
    "parallel": {"workers": 2},
    **{rules: {"enabled": False} for rules in ("gopher", "repetition", "fineweb", "c4")},
})
with progress.listening(at):
    references = [ref for source in given["sources"] for ref in resolve(source, reading)]
    documents = [ingest.run_now(ref, reading) for ref in references]
    cleaned = [clean.run_now(part, judging) for part in documents]
    corpus = deduplicate.run_now(cleaned, DeduplicateConfig())
made = [*documents, *cleaned, corpus]
print(json.dumps({
    "files": {f"{each.kind} {each.key} {part.name}": part.sha256 for each in made for part in each.parts},
    "stats": [each.stats for each in (*cleaned, corpus)],
    "killed": sorted(set(killed)),
}))
"""


@dataclass(frozen=True)
class Ended:
    """How a run of the program ended."""

    code: int
    said: dict
    errors: str


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two archives of pages in three languages; every tenth page stands in both."""
    folder = tmp_path_factory.mktemp("sources")
    for name in "ab":
        with WarcWriter(folder / f"{name}.warc.gz", software="test", date=NOON) as writer:
            for number in range(PAGES):
                writer.response(
                    f"http://{name}.example/{number}",
                    NOON,
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n",
                    page(number if number % 10 == 0 else f"{name}{number}").encode(),
                )
    return [str(folder / "a.warc.gz"), str(folder / "b.warc.gz")]


def page(seed: object) -> str:
    chance = random.Random(str(seed))
    sentence = list(LANGUAGES.values())[chance.randrange(3)]
    lines = (sentence.format(chance.randrange(10**6), chance.randrange(10**6)) for _ in range(60))
    body = "".join(f"<p>{line}</p>" for line in lines)
    return f"<html><body><article><h1>{seed}</h1>{body}</article></body></html>"


def run(home: Path, sources: list[str], victim: str = "", moments: tuple = ()) -> Ended:
    """Make a corpus in a process of its own; the victim is killed at the n-th event of (stage, state, n)."""
    given = json.dumps({"sources": sources, "victim": victim, "moments": moments})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, given],
        env={**os.environ, "MODELMILL_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Ended(done.returncode, json.loads(done.stdout or "{}"), done.stderr)


@pytest.fixture(scope="module")
def undisturbed(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What an undisturbed run leaves."""
    ended = run(tmp_path_factory.mktemp("calm") / "home", sources)
    assert ended.code == 0, ended.errors
    rejected = [stats["rejected"] for stats in ended.said["stats"]]
    assert all(counts.get("language", 0) > 5 for counts in rejected[:2])
    assert sum(rejected[2].values()) >= 2
    return ended.said


def test_workers_killed_by_hand_in_each_stage_cost_nothing(
    tmp_path: Path, sources: list[str], undisturbed: dict
) -> None:
    moments = [(stage, "progress", number) for stage in ("ingest", "clean") for number in (1, 3, 17)]
    ended = run(tmp_path / "home", sources, "workers", tuple(moments))
    assert ended.code == 0, ended.errors
    assert ended.said["killed"] == ["clean", "ingest"]
    assert ended.said["files"] == undisturbed["files"]
    assert ended.said["stats"] == undisturbed["stats"]


def test_a_process_killed_in_each_stage_leaves_the_corpus_of_an_undisturbed_run(
    tmp_path: Path, sources: list[str], undisturbed: dict
) -> None:
    moments = [
        ("ingest", "started", 1),
        ("ingest", "progress", 33),
        ("clean", "progress", 17),
        ("deduplicate", "started", 1),
        ("deduplicate", "progress", 1),
    ]
    for moment in moments:
        assert run(tmp_path / "home", sources, "process", (moment,)).code == -signal.SIGKILL, moment
    ended = run(tmp_path / "home", sources)
    assert ended.code == 0, ended.errors
    assert ended.said["files"] == undisturbed["files"]
    assert ended.said["stats"] == undisturbed["stats"]
    left = [path.name for path in (tmp_path / "home/store").glob("*/*.partial")]
    assert left == [], "nothing unfinished is left beside what was finished"
