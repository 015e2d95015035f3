"""Time to ready, first and later starts, time to stop, memory of the idle stack, what a stop leaves behind.

``python tests/bench/bench_stack.py [--rounds 20] [--idle 0]`` prints a line a round. The budgets: ready in
30 s at the second start, 1.2 GB idle, no orphan. CPU seconds are given too, since on a busy machine they say
more than the clock.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    head = psutil.Process(pid)
    return [head, *head.children(recursive=True)]


def left_behind(home: Path) -> list[psutil.Process]:
    """Processes that still carry the home in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("MODELMILL_HOME") == str(home):
                found.append(process)
    return found


def start_and_stop(home: Path, idle_s: float) -> dict[str, float]:
    """One round; seconds, CPU seconds and megabytes (shared pages counted once)."""
    ports = ["--prefect-port", str(free_port()), "--mlflow-port", str(free_port())]
    environment = {**os.environ, "MODELMILL_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    started = time.monotonic()
    command = [sys.executable, "-m", "flows.cli", "up", *ports]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        ready = any("Ready in" in line for line in process.stdout)
        seconds = time.monotonic() - started
        if not ready:
            raise SystemExit("the stack did not start; its words are above")
        processes = family(process.pid)
        cpu = sum(sum(p.cpu_times()[:2]) for p in processes)
        time.sleep(idle_s)
        memory = sum(p.memory_full_info().pss for p in family(process.pid)) / 1e6
        stopping = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        stop = time.monotonic() - stopping
    orphans = len(left_behind(home))
    return {"ready s": seconds, "CPU s": cpu, "idle MB": memory, "stop s": stop, "orphans": orphans}


def main() -> None:
    """A first and some further starts in one home."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds before memory is measured")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelmill-stack-") as folder:
        home = Path(folder) / "home"
        for number in range(1, chosen.rounds + 1):
            figures = start_and_stop(home, chosen.idle)
            words = "  ".join(f"{what} {value:7.1f}" for what, value in figures.items())
            print(f"round {number:2}  {words}", flush=True)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
