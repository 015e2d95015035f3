"""A stack of two plain processes, to try how a stack lives and dies without waiting for real servers.

``python plain_services.py MODE PORT PORT [ROUNDS]``. Each service has a child of its own in another session;
in MODE ``stubborn`` one of the two is deaf to SIGTERM. With ROUNDS the stack stops itself as soon as it is
ready, and starts again, so often.
"""

import os
import signal
import sys
from pathlib import Path

from flows.services import environment
from flows.stack import Stack
from flows.stack_options import StackOptions
from flows.stack_processes import Service
from storage.home import home

POLITE = "setsid sleep 600 & while :; do sleep 600 & wait; done"
STUBBORN = "trap '' TERM; " + POLITE


def services(options: StackOptions, mark: str) -> list[Service]:
    """One service that ends when asked and one that may not."""

    def service(name: str, script: str) -> Service:
        log = home() / f"{name}.log"
        command = ["sh", "-c", script]
        return Service(name, command, environment(options, mark), log, log.exists, Path.cwd())

    return [service("server", POLITE), service("worker", STUBBORN if sys.argv[1] == "stubborn" else POLITE)]


def main() -> None:
    """Run the stack once, or so many times as asked."""
    options = StackOptions(deployments="", prefect_port=int(sys.argv[2]), mlflow_port=int(sys.argv[3]))
    if len(sys.argv) < 5:
        Stack(options, print, services).run(lambda: print("ready", flush=True))
    for number in range(int(sys.argv[4]) if len(sys.argv) > 4 else 0):
        how = signal.SIGINT if number % 2 else signal.SIGTERM
        stack = Stack(options, print, services)
        stack.run(lambda how=how: os.kill(os.getpid(), how))  # type: ignore[misc]
        print(stack.mark, flush=True)


main()
