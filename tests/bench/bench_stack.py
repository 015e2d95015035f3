"""Time to ready, first and second start, time to stop, and memory of the idle stack.

``python tests/bench/bench_stack.py`` prints one table. The budgets: ready in 30 s at the second start, 1.2 GB
idle. CPU seconds are given too, since on a busy machine they say more than the clock.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> list[psutil.Process]:
    head = psutil.Process(pid)
    return [head, *head.children(recursive=True)]


def start_and_stop(home: Path) -> dict[str, float]:
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
        time.sleep(20)  # idle
        memory = sum(p.memory_full_info().pss for p in family(process.pid)) / 1e6
        stopping = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        stop = time.monotonic() - stopping
    return {"ready s": seconds, "CPU s": cpu, "idle MB": memory, "stop s": stop}


def main() -> None:
    """A first and two further starts in one home."""
    with tempfile.TemporaryDirectory(prefix="modelmill-stack-") as folder:
        home = Path(folder) / "home"
        for name in ("first", "second", "third"):
            figures = start_and_stop(home)
            print(
                f"{name:8s}", "  ".join(f"{what} {value:7.1f}" for what, value in figures.items()), flush=True
            )
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
