"""The training process under its supervisor: killed, hung, halted, stopped, orphaned, resumed.

More kills than the default, of two processes under torchrun, with what they hit:
``MODELMILL_TRAINING_KILLS=20 MODELMILL_TRAINING_PROCESSES=2 pytest -s tests/test_supervisor.py -k random``
"""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tokenizers import Tokenizer, models

from tasks.gpt import metrics
from tasks.gpt.errors import (
    TrainingError,
    TrainingHaltedError,
    TrainingHungError,
    TrainingStoppedError,
)
from tasks.gpt.launch import FAILED_STATUS, cause
from tasks.gpt.supervisor import PARENT, TUNED_ALLOCATOR, Launch, supervise, training_environment

KILLS = int(os.environ.get("MODELMILL_TRAINING_KILLS", "3"))
PROCESSES = int(os.environ.get("MODELMILL_TRAINING_PROCESSES", "1"))
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")

SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from tasks.gpt.config import TrainConfig
from tasks.gpt.launch import Job, train
from tasks.gpt.supervisor import die_with_parent

class Batches:
    identity = {}
    def __init__(self, world):
        self.world = world
    def batch(self, index):
        rng = np.random.default_rng(index)
        tokens = (rng.integers(0, 60, (4, 1)) + 3 * np.arange(17)) % 60
        if index == POISONED:
            tokens = rng.integers(0, 60, tokens.shape)
        share = 4 // self.world.size
        tokens = tokens[self.world.rank * share : (self.world.rank + 1) * share]
        return tokens[:, :-1].copy(), tokens[:, 1:].copy()
    def documents(self, index):
        return [f"document-{index}"]

POISONED = int(sys.argv[3]) if len(sys.argv) > 3 else -1
folder = Path(sys.argv[1])
die_with_parent()
held_out = (np.arange(6)[:, None] + 3 * np.arange(17)) % 60
sys.exit(train(Job(
    config=TrainConfig.model_validate_json(sys.argv[2]),
    vocab_size=60, corpus_tokens=1000, held_out=(held_out[:, :-1], held_out[:, 1:]),
    tokenizer=folder.parent / "tokenizer", folder=folder, batches=Batches,
)))
"""

SETTINGS: dict[str, Any] = {
    "model": {"layers": 2, "heads": 2, "width": 32, "context": 16},
    "steps": 150,
    "batch_sequences": 4,
    "held_out": {"every_steps": 20, "sequences": 4},
    "checkpoints": {"every_steps": 5},
    "guard": {"spike_nats": 2.0},
    "hardware": {"threads": 1, "compile": "off"},
}


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Launch]:
    """Build a launch of the script above: launch(name, settings, *more arguments)."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    (tmp_path / "tokenizer").mkdir()
    vocab = {chr(33 + i): i for i in range(59)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "tokenizer/tokenizer.json"))

    def build(name: str, settings: dict[str, Any], *more: str, python: tuple[str, ...] = ()) -> Launch:
        folder = tmp_path / name
        command = [*(python or (sys.executable,)), str(script), str(folder), json.dumps(settings), *more]
        environment = training_environment(tuned_allocator=True, threads=1)
        if python:
            del environment[PARENT]  # its workers are children of torchrun
        return Launch(command, folder, heartbeat_s=60, environment=environment)

    return build


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "hf/model.safetensors").read_bytes()).hexdigest()


def ignore(_event: dict[str, Any]) -> None:
    pass


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and all below it; what has ended meanwhile is let be."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        for victim in [*parent.children(recursive=True), parent]:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
    process.wait()


def steps_told(folder: Path) -> int:
    """Steps told of by all the processes there were, those that were taken again counted again."""
    return sum(event["kind"] == "step" for event in metrics.read_events(folder))


def test_a_process_that_breaks_as_it_exits_has_finished(launch: Callable[..., Launch]) -> None:
    broken = launch("broken", SETTINGS | {"steps": 3})
    Path(broken.command[1]).write_text(f"import atexit, os\natexit.register(os.abort)\n{SCRIPT}")
    assert supervise(broken, ignore)["step"] == 3


def test_killed_at_random_instants_the_model_is_the_same(launch: Callable[..., Launch]) -> None:
    hardware = {**SETTINGS["hardware"], "processes": PROCESSES, "micro_batch": 2 // PROCESSES}
    settings = {**SETTINGS, "steps": 100 * KILLS, "hardware": hardware}
    python = TORCHRUN if PROCESSES > 1 else ()
    straight = launch("straight", settings, python=python)
    assert supervise(straight, ignore)["step"] == 100 * KILLS
    cut = launch("cut", settings, python=python)
    chance = random.Random(0)
    for _ in range(KILLS):
        told = steps_told(cut.folder)
        process = subprocess.Popen(
            list(cut.command), env={k: v for k, v in cut.environment.items() if "PARENT" not in k}
        )
        while process.poll() is None and steps_told(cut.folder) == told:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.3)
        kill_tree(process)
        print(f"killed at step {metrics.curve(cut.folder)[-1]['step']}")
    supervise(cut, ignore)
    assert digest(cut.folder) == digest(straight.folder)
    assert metrics.curve(cut.folder) == metrics.curve(straight.folder)


def test_events_arrive_while_it_runs_and_the_plan_comes_first(launch: Callable[..., Launch]) -> None:
    events: list[dict[str, Any]] = []
    supervise(launch("run", SETTINGS | {"steps": 12}), events.append)
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "plan"
    assert kinds[-1] == "finished"
    assert kinds.count("step") == 12
    plan = events[0]
    assert plan["parameters"] == (60 + 16 + 2) * 32 + 2 * (12 * 32 * 32 + 13 * 32)
    assert plan["tokens"] == 12 * 4 * 16
    assert plan["seconds"] > 0


def test_a_stop_request_saves_and_the_next_run_goes_on(launch: Callable[..., Launch]) -> None:
    made = launch("run", SETTINGS | {"steps": 100_000, "schedule": {"kind": "cosine"}})
    seen: list[int] = []

    def stop_at_forty(event: dict[str, Any]) -> None:
        if event["kind"] == "step":
            seen.append(event["step"])
            if event["step"] == 40:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingStoppedError, match="saved; run again to go on"):
        supervise(made, stop_at_forty)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    again: list[dict[str, Any]] = []

    def interrupt(event: dict[str, Any]) -> None:
        again.append(event)
        if event["kind"] == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervise(made, interrupt)
    assert {"kind": "resumed", "step": seen[-1]} in again


def test_a_stop_request_as_it_starts_is_no_death_to_start_again_from(tmp_path: Path) -> None:
    command = sleeper(tmp_path, event="")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(TrainingStoppedError, match="ended without saving; run again to go on"):
        supervise(Launch(command, tmp_path, 60, os.environ), ignore)
    timer.join()


def test_a_second_stop_request_does_not_disturb_the_saving(tmp_path: Path) -> None:
    slow = f"""
import json, signal, time
told = open({str(tmp_path / "metrics-0001.jsonl")!r}, "w", buffering=1)
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
print(json.dumps({{"kind": "step", "step": 1}}), file=told)
while not asked:
    time.sleep(0.01)
time.sleep(1)
print(json.dumps({{"kind": "stopped", "step": len(asked)}}), file=told)
"""

    def ask_twice(_event: dict[str, Any]) -> None:
        if not timers:
            for delay in (0.1, 0.6):
                timers.append(threading.Timer(delay, os.kill, (os.getpid(), signal.SIGTERM)))
                timers[-1].start()

    timers: list[threading.Timer] = []
    with pytest.raises(TrainingStoppedError, match="asked to stop at step 1 and saved"):
        supervise(Launch([sys.executable, "-c", slow], tmp_path, 60, os.environ), ask_twice)
    for timer in timers:
        timer.join()


def test_a_micro_batch_is_no_larger_than_the_batch(launch: Callable[..., Launch]) -> None:
    hardware = {**SETTINGS["hardware"], "micro_batch": 65_536}
    events: list[dict[str, Any]] = []
    supervise(launch("run", SETTINGS | {"steps": 1, "hardware": hardware}), events.append)
    assert (events[0]["kind"], events[0]["micro_batch"], events[0]["accumulation"]) == ("plan", 4, 1)


def test_held_out_text_too_short_for_a_loss_is_said(launch: Callable[..., Launch]) -> None:
    made = launch("run", SETTINGS | {"steps": 2, "held_out": {"every_steps": 1, "patience": 1}})
    Path(made.command[1]).write_text(SCRIPT.replace("np.arange(6)", "np.arange(0)"))
    said: list[str] = []
    assert supervise(made, lambda event: said.append(event.get("text", "")))["step"] == 2
    assert any("not 17 held-out tokens" in text and "no early stop" in text for text in said)


def sleeper(folder: Path, *, event: str) -> list[str]:
    """A process that writes one metrics line, or none, says so, and hangs."""
    written = f"open({str(folder / 'metrics-000.jsonl')!r}, 'w').write({event!r})"
    return [
        sys.executable,
        "-c",
        f"import time; {written}; print('going to sleep', flush=True); time.sleep(600)",
    ]


def test_a_process_that_hangs_at_work_is_killed(tmp_path: Path) -> None:
    command = sleeper(tmp_path, event='{"kind": "note", "text": "at work"}\n')
    with pytest.raises(TrainingHungError, match=r"no sign of life for 0.5 s .*going to sleep"):
        supervise(Launch(command, tmp_path, 0.5, os.environ, start_s=600), ignore)


def test_a_process_that_never_starts_is_killed_later(tmp_path: Path) -> None:
    command = sleeper(tmp_path, event="")
    with pytest.raises(TrainingHungError, match=r"not one sign of life for 1.5 s .*going to sleep"):
        supervise(Launch(command, tmp_path, 0.1, os.environ, start_s=1.5), ignore)


def test_last_words_are_in_the_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise RuntimeError('no memory for the seventh layer')"]
    with pytest.raises(TrainingError, match=r"(?s)ended with status 1.*no memory for the seventh layer"):
        supervise(Launch(command, tmp_path, 60, os.environ), ignore)
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    with pytest.raises(TrainingError, match="was killed by SIGKILL"):
        supervise(Launch(command, tmp_path, 60, os.environ), ignore)


def test_a_failure_that_explains_itself_is_quoted_without_a_traceback(launch: Callable[..., Launch]) -> None:
    made = launch("run", SETTINGS | {"hardware": {**SETTINGS["hardware"], "device": "cuda"}})
    blind = replace(made, environment={**made.environment, "CUDA_VISIBLE_DEVICES": ""})
    with pytest.raises(TrainingError, match=r"words: train.hardware.device is cuda, .* to auto or cpu$"):
        supervise(blind, ignore)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([1, -signal.SIGKILL], -signal.SIGKILL),
        ([-signal.SIGTERM, -signal.SIGSEGV], -signal.SIGSEGV),
        ([-signal.SIGABRT, FAILED_STATUS], FAILED_STATUS),
        ([1, -signal.SIGTERM], 1),
        ([75, 75], 75),
    ],
)
def test_of_several_processes_that_ended_one_is_the_cause(statuses: list[int], expected: int) -> None:
    assert cause(statuses) == expected


def test_a_curve_leaves_out_what_came_before_a_rewind_and_never_again(tmp_path: Path) -> None:
    told = metrics.MetricsWriter(tmp_path)
    for step in (1, 2, 3):
        told.write("step", step=step, tokens=step, loss=3.0, lr=0.1, grad_norm=1.0)
    told.write("held_out", step=3, loss=3.0)
    told.write("resumed", step=1)
    told.write("step", step=2, tokens=2, loss=2.0, lr=0.1, grad_norm=1.0)
    told.close()
    assert [(row["step"], row["loss"]) for row in metrics.curve(tmp_path)] == [(1, 3.0), (2, 2.0)]


def test_a_halt_names_step_documents_and_checkpoint(launch: Callable[..., Launch]) -> None:
    with pytest.raises(
        TrainingHaltedError, match=r"step 71: .*document-70.*last good checkpoint is of step 70"
    ):
        supervise(launch("run", SETTINGS, "70"), ignore)


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death is signalled on Linux only")
def test_it_dies_with_its_parent(launch: Callable[..., Launch], tmp_path: Path) -> None:
    made = launch("run", SETTINGS | {"steps": 1_000_000})
    parent_script = tmp_path / "parent.py"
    parent_script.write_text(
        textwrap.dedent(f"""
        import os, sys
        from pathlib import Path
        from tasks.gpt.supervisor import Launch, supervise, training_environment
        environment = training_environment(tuned_allocator=True, threads=1)
        supervise(Launch({list(made.command)!r}, Path({str(made.folder)!r}), 60, environment),
                  lambda event: None)
        """)
    )
    parent = subprocess.Popen([sys.executable, str(parent_script)], env=dict(made.environment))
    while not any(event["kind"] == "step" for event in metrics.read_events(made.folder)):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while any(str(made.folder) in command for command in running()):
        assert time.monotonic() < deadline, "the training process outlived its parent"
        time.sleep(0.05)


def running() -> list[str]:
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return commands


def test_supervising_works_outside_the_main_thread(tmp_path: Path) -> None:
    result: list[BaseException] = []

    def work() -> None:
        try:
            supervise(Launch([sys.executable, "-c", "pass"], tmp_path, 60, os.environ), ignore)
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "ended with status 0" in str(result[0])


def test_the_environment_is_tuned_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    assert TUNED_ALLOCATOR.items() <= training_environment(tuned_allocator=True, threads=3).items()
    plain = training_environment(tuned_allocator=False, threads=3)
    assert "MALLOC_MMAP_MAX_" not in plain
    assert plain["OMP_NUM_THREADS"] == "3"
    assert int(plain["GOMP_SPINCOUNT"]) > 0
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=3")
    tuned = training_environment(tuned_allocator=True, threads=3)
    assert tuned["GOMP_SPINCOUNT"] == "7"
    assert tuned["GLIBC_TUNABLES"] == "glibc.malloc.tcache_count=3:glibc.malloc.hugetlb=1"


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_see_the_same_data_and_learn_the_same(
    launch: Callable[..., Launch], parallel: str
) -> None:
    settings = SETTINGS | {"steps": 20, "precision": "float32"}
    two = {**SETTINGS["hardware"], "processes": 2, "parallel": parallel}
    supervise(launch("one", settings), ignore)
    pair = launch("two", {**settings, "hardware": two}, python=TORCHRUN)
    stopped: list[int] = []

    def stop_once(event: dict[str, Any]) -> None:
        if event["kind"] == "step" and event["step"] == 8 and not stopped:
            stopped.append(8)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervise(pair, stop_once)
    supervise(pair, ignore)
    one, both = ([row["loss"] for row in metrics.curve(pair.folder.parent / name)] for name in ("one", "two"))
    assert both == pytest.approx(one, abs=1e-4)
