"""Runs training in a process of its own, and knows at any time whether it lives.

Training is native code that can hang, run out of memory or be killed, and none of it may take the
orchestrator along. So it is a subprocess that

- gets an allocator that keeps its memory (freed activations are needed again a moment later; +43 % steps a
  second for a small model on a CPU with glibc's default turned off),
- dies when its parent does, however that ends (PR_SET_PDEATHSIG),
- is killed when it shows no sign of life for the watchdog's time,
- is told to save and end when the parent is, and
- leaves its last words (the end of its error output) to be quoted in the error.

Pure: it knows processes and files, not what is trained.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.gpt.errors import (
    TrainingError,
    TrainingHaltedError,
    TrainingHungError,
    TrainingKilledError,
    TrainingStoppedError,
)
from tasks.gpt.metrics import PATTERN, parse

TUNED_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""glibc: never give memory back to the system, never map single blocks. Other allocators ignore these."""
HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""glibc's tunable for pages of 2 MB where the system leaves the choice to programs: matrices of many of the
small pages are read across, and each is looked up again. Three to nine hundredths of a step on a CPU."""
WAITING = {"GOMP_SPINCOUNT": "2000", "OPENBLAS_THREAD_TIMEOUT": "18"}
"""How long threads wait awake for the next piece of work before they sleep: OpenMP's, in rounds, and
OpenBLAS's, in cycles, as a power of two.

By default they spin for milliseconds: where other work wants the cores, the threads wait for each other's
time slices. On two busy cores training fell to 1,000 tokens/s by default and kept 6,000 so; on idle ones
both did 15,000.
"""
POLL_S = 0.1
LAST_WORDS = 4000
"""Characters of error output kept for an error message."""
PARENT = "MODELMILL_TRAINING_PARENT"
"""Environment variable with the process id of whoever started training."""
GRACE_S = 60.0
"""Between asking a process to save and end, and killing it."""
START_S = 600.0
"""Until the first sign of life: torchrun and two imports of torch take a minute on a loaded machine."""


@dataclass(frozen=True)
class Launch:
    """How to start training."""

    command: Sequence[str]
    folder: Path
    """Where metrics files and the error output go."""
    heartbeat_s: float
    """Seconds without a metrics line, after the first one, before the process counts as hung."""
    environment: Mapping[str, str]
    start_s: float = START_S
    """Seconds until the first metrics line; ``heartbeat_s`` where that is longer. A start that is slow says
    nothing of how long a step may take, so it has a limit of its own."""


def training_command(spec: Path) -> list[str]:
    """The command line of a training run; the process becomes torchrun where the run takes several."""
    return [sys.executable, "-m", "tasks.train_process", str(spec)]


def training_environment(*, tuned_allocator: bool, threads: int) -> dict[str, str]:
    """This process's environment with what training needs set before it starts."""
    environment = dict(os.environ)
    if tuned_allocator:
        environment.update(TUNED_ALLOCATOR)
        tunables = filter(None, (environment.get("GLIBC_TUNABLES"), HUGE_PAGES))
        environment["GLIBC_TUNABLES"] = ":".join(tunables)
    for name, value in WAITING.items():
        environment.setdefault(name, value)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment["PYTHONUNBUFFERED"] = "1"
    environment[PARENT] = str(os.getpid())
    return environment


def supervise(launch: Launch, on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run the process to its end, handing each metrics event to ``on_event``; returns its ``finished``.

    Raises one of tasks.gpt.errors, with the process's last words where it left no better reason. On any
    exception in the calling thread (Ctrl-C, a cancelled task) the process is asked to save and end, then
    killed.
    """
    launch.folder.mkdir(parents=True, exist_ok=True)
    before = set(launch.folder.glob(PATTERN))
    with (launch.folder / "stderr.log").open("wb") as errors:
        process = subprocess.Popen(
            list(launch.command),
            stdout=errors,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env=dict(launch.environment),
            start_new_session=True,
        )
    tail = _Tail(launch.folder, before)
    try:
        with _forwarding_sigterm(process) as asked:
            last = _watch(process, tail, launch, on_event)
    except BaseException:
        end(process)
        raise
    return _verdict(process.returncode, last, launch.folder, asked=asked.is_set())


def _watch(
    process: subprocess.Popen[bytes], tail: _Tail, launch: Launch, on_event: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The last event of the process, once it has ended; an empty one where it told nothing."""
    last, heard = {"kind": ""}, time.monotonic()
    while True:
        ended = process.poll() is not None  # asked before reading, so that nothing written is missed
        for event in tail.read():
            last, heard = event, time.monotonic()
            on_event(event)
        if ended:
            return last
        started = bool(last["kind"])
        limit = launch.heartbeat_s if started else max(launch.start_s, launch.heartbeat_s)
        if time.monotonic() - heard > limit:
            _kill(process)
            raise TrainingHungError(
                f"training showed {'no' if started else 'not one'} sign of life for {limit:g} s and was "
                f"killed; where a step may take so long, set train.hardware.heartbeat_seconds higher; its "
                f"last words: {last_words(launch.folder)}"
            )
        time.sleep(POLL_S)


def _verdict(status: int, last: dict[str, Any], folder: Path, *, asked: bool) -> dict[str, Any]:
    if last["kind"] == "finished":  # told once the model is whole; torch's threads may abort at the exit
        return last
    if last["kind"] == "stopped":
        raise TrainingStoppedError(
            f"training was asked to stop at step {last['step']} and saved; run again to go on"
        )
    if last["kind"] == "halted":
        raise TrainingHaltedError(last["text"])
    words = f"its last words: {last_words(folder)}"
    if asked:  # as it started, or while it could not save: ended by the request all the same
        raise TrainingStoppedError(
            f"training was asked to stop and ended without saving; run again to go on from its last "
            f"checkpoint; {words}"
        )
    if status < 0:
        name = signal.Signals(-status).name
        mend = "; where memory ran out, set train.hardware.micro_batch lower" if name == "SIGKILL" else ""
        raise TrainingKilledError(f"training was killed by {name}{mend}; {words}")
    raise TrainingError(f"training ended with status {status}; {words}")


def end(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """Ask a process to save and end; kill it and its children where it does not within ``grace_s``."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    _kill(process)


def last_words(folder: Path) -> str:
    """The end of the process's output."""
    try:
        text = (folder / "stderr.log").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        text = ""
    return text[-LAST_WORDS:] or "(none)"


class _Tail:
    """Reads whole lines from the metrics files that a process adds to a folder."""

    def __init__(self, folder: Path, before: set[Path]) -> None:
        self._folder = folder
        self._before = before
        self._path: Path | None = None
        self._position = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """What has been added since the last time."""
        if self._path is None:
            new = sorted(set(self._folder.glob(PATTERN)) - self._before)
            if not new:
                return
            self._path = new[0]
        with self._path.open("rb") as file:
            file.seek(self._position)
            for line in file:
                event = parse(line.decode("utf-8", errors="replace"))
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                if event is not None:
                    yield event


@contextmanager
def _forwarding_sigterm(process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """Pass SIGTERM on while the block runs; the event is set once one came.

    Only the first: torchrun takes a second one for an order to leave at once, in the middle of its workers'
    saving. Only the main thread may listen, so elsewhere nothing changes.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def forward(_number: int, _frame: object) -> None:
        if not asked.is_set():
            asked.set()
            process.terminate()

    earlier = signal.signal(signal.SIGTERM, forward)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole process group: torchrun's workers as well."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def die_with_parent() -> None:
    """For the started process: be killed when the thread that started it ends (Linux; elsewhere nothing).

    Called by the process itself, since running code between fork and exec is not safe in a parent with
    threads; where the parent is gone already, end at once. Holds across exec.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    expected = os.environ.pop(PARENT, None)
    if expected is not None and int(expected) != os.getppid():
        sys.exit("the process that started this one is gone")
