"""An item that crashes, hangs or raises costs itself alone, and order is kept."""

import math
import operator
import os
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from tasks import pool_fork_server, pool_processes
from tasks.pool import Outcome, PoolError, map_isolated
from tasks.processors import SHARE, processors

HELPERS = '''
import os, time
from pathlib import Path

def misbehave(item):
    if item == "crash":
        os.abort()
    if item == "exit":
        os._exit(3)
    if item == "sleep":
        time.sleep(60)
    if item == "spin":
        while True:
            pass
    if item == "raise":
        raise ValueError("no good")
    if item == "exhaust":
        bytearray(2**34)
    if item == "lambda":
        return lambda: None
    return item * 2

class Refused(Exception):
    reason, detail = "too_large", "9 > 8"

def refuse(item):
    raise Refused

def die_once(path):
    """Die at the first sight of a path, as a worker does that is killed by hand."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), 9)
    return Path(path).name

def die_often(path):
    """Die at the first four sights of a path, and always at one that ends in a 9."""
    with open(path, "a") as mark:
        mark.write("x")
    if Path(path).stat().st_size < 5 or path.endswith("9"):
        os.kill(os.getpid(), 9)
    return Path(path).name

def pid_of(item):
    return os.getpid()

def pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()

def hoard(size):
    return len(bytearray(size))
'''


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A module that the workers can import, as they do real ones."""
    (tmp_path / "pool_helpers.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import pool_helpers  # type: ignore[import-not-found]

    return pool_helpers


def values(outcomes: Iterator[Outcome[object, object]]) -> list[object]:
    return [each.error.reason if each.error else each.value for each in outcomes]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pids_kept() -> set[int]:
    return {worker.pid for worker in pool_processes._staff.resting}


def test_order_is_kept_whatever_the_workers() -> None:
    items = list(range(200))
    for workers, chunk in ((1, 1), (2, 7), (3, 64)):
        outcomes = list(map_isolated(math.sqrt, items, workers=workers, chunk=chunk))
        assert [each.value for each in outcomes] == [math.sqrt(item) for item in items]
        assert [each.index for each in outcomes] == items
        assert [each.item for each in outcomes] == items


def test_no_items_start_no_worker() -> None:
    assert list(map_isolated(math.sqrt, [])) == []


def test_crash_loop_and_error_cost_one_item_each(helpers: object) -> None:
    items = ["a", "crash", "b", "exit", "c", "spin", "d", "sleep", "e", "raise", "f", "lambda", "g"]
    outcomes = map_isolated(helpers.misbehave, items, workers=2, timeout_s=0.4, chunk=3)  # type: ignore[attr-defined]
    expected = ["aa", "crashed", "bb", "crashed", "cc", "timed_out", "dd", "timed_out", "ee", "raised", "ff"]
    assert values(outcomes) == [*expected, "raised", "gg"]


def test_details_say_what_happened(helpers: object) -> None:
    outcomes = list(map_isolated(helpers.misbehave, ["crash", "exit", "raise"]))  # type: ignore[attr-defined]
    details = [each.error.detail for each in outcomes if each.error]
    assert details == [
        "the worker died of SIGABRT",
        "the worker left with exit code 3",
        "ValueError: no good",
    ]


def test_an_exceptions_own_reason_is_kept(helpers: object) -> None:
    (outcome,) = map_isolated(helpers.refuse, [1])  # type: ignore[attr-defined]
    assert outcome.error is not None
    assert (outcome.error.reason, outcome.error.detail) == ("too_large", "9 > 8")


def test_a_worker_killed_by_hand_changes_nothing(helpers: object, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"mark{number}") for number in range(4)]
    assert values(map_isolated(helpers.die_once, paths, chunk=4)) == [f"mark{n}" for n in range(4)]  # type: ignore[attr-defined]


def test_workers_killed_by_hand_again_and_again_change_nothing_within_reason(
    helpers: object, tmp_path: Path
) -> None:
    paths = [str(tmp_path / name) for name in ("mark1", "mark9", "mark2")]
    assert values(map_isolated(helpers.die_often, paths)) == ["mark1", "crashed", "mark2"]  # type: ignore[attr-defined]


def test_memory_is_bounded(helpers: object) -> None:
    outcomes = map_isolated(helpers.hoard, [10, 2**32, 20], memory_bytes=2**30)  # type: ignore[attr-defined]
    assert values(outcomes) == [10, "out_of_memory", 20]


def test_items_are_taken_lazily() -> None:
    taken = 0

    def count() -> Iterator[float]:
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield float(number)

    outcomes = map_isolated(math.sqrt, count(), workers=1, chunk=4)
    assert next(outcomes).value == 0
    assert taken <= 100
    outcomes.close()


def test_large_items_and_values_do_not_deadlock() -> None:
    blocks = [bytes([number]) * 3_000_000 for number in range(8)]
    outcomes = map_isolated(partial(operator.add, b"!"), blocks, workers=1, chunk=2)
    for number, outcome in enumerate(outcomes):
        assert outcome.value == b"!" + blocks[number]


def test_closing_early_leaves_no_process(helpers: object) -> None:
    outcomes = map_isolated(helpers.pid_of, range(100), workers=2, chunk=2)  # type: ignore[attr-defined]
    pid = next(outcomes).value
    outcomes.close()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_that_is_done_serves_the_next_map(helpers: object) -> None:
    (first,) = values(map_isolated(helpers.pid_of, [0]))  # type: ignore[attr-defined]
    assert values(map_isolated(math.sqrt, [4.0])) == [2.0]
    assert values(map_isolated(helpers.pid_of, [0, 1])) == [first, first]  # type: ignore[attr-defined]


@pytest.mark.parametrize("item", ["crash", "spin", "exhaust"])
def test_a_worker_that_came_to_harm_serves_no_other(helpers: object, item: str) -> None:
    before = pids_kept()
    list(map_isolated(helpers.misbehave, [item], timeout_s=0.4, memory_bytes=2**30))  # type: ignore[attr-defined]
    assert pids_kept() <= before


def test_a_workers_memory_is_bounded_as_each_map_says(helpers: object) -> None:
    hoard, size = helpers.hoard, 2**30  # type: ignore[attr-defined]
    assert values(map_isolated(hoard, [size])) == [size]
    kept = pids_kept()
    assert values(map_isolated(hoard, [size], memory_bytes=2**29)) == ["out_of_memory"]
    assert not kept & pids_kept()
    assert values(map_isolated(hoard, [9], memory_bytes=2**29)) == [9]
    kept = pids_kept()
    assert values(map_isolated(hoard, [size])) == [size]
    assert pids_kept() == kept


def test_a_worker_of_other_surroundings_is_not_taken(
    helpers: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = values(map_isolated(helpers.pid_of, [0]))  # type: ignore[attr-defined]
    monkeypatch.setenv("MODELMILL_TEST_SURROUNDINGS", "others")
    seen += values(map_isolated(helpers.pid_of, [0]))  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    seen += values(map_isolated(helpers.pid_of, [0]))  # type: ignore[attr-defined]
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    seen += values(map_isolated(helpers.pid_of, [0]))  # type: ignore[attr-defined]
    assert len(set(seen)) == 4
    assert all(isinstance(pid, int) and not _alive(pid) for pid in seen[:-1])


def test_maps_in_threads_share_workers_and_keep_a_bounded_number(helpers: object) -> None:
    def squares(start: int) -> list[object]:
        return values(map_isolated(helpers.misbehave, range(start, start + 40), workers=2, chunk=3))  # type: ignore[attr-defined]

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(squares, range(0, 900, 100)))
    assert found == [[2 * (start + n) for n in range(40)] for start in range(0, 900, 100)]
    assert len(pids_kept()) <= processors()


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As many workers as two processors carry; none is left of other tests, and none for them."""
    until(nobody_works)
    pool_processes.dismiss()
    monkeypatch.setattr(pool_processes, "_staff", pool_processes._Staff())
    monkeypatch.setattr(pool_processes, "processors", lambda: 2)
    yield
    until(nobody_works)
    pool_processes.dismiss()


def nobody_works() -> bool:
    """No worker is at work, nor about to be started."""
    return not pool_processes._staff.called and not pool_processes._staff.working


@pytest.mark.usefixtures("two_processors")
def test_workers_that_were_called_beforehand_serve_the_first_map(helpers: object) -> None:
    pool_processes.start_workers("pool_helpers")
    pool_processes.start_workers("pool_helpers")
    until(lambda: len(pids_kept()) == 2)
    called = pids_kept()
    (pid,) = values(map_isolated(helpers.pid_of, [0]))  # type: ignore[attr-defined]
    assert len(called) == 2
    assert pid in called


@pytest.mark.usefixtures("two_processors")
def test_a_worker_that_cannot_be_made_ready_beforehand_stops_nothing(helpers: object) -> None:
    pool_processes.start_workers("no_such_module_anywhere")
    until(nobody_works)
    assert values(map_isolated(helpers.misbehave, ["a"])) == ["aa"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("two_processors")
def test_maps_side_by_side_have_no_more_workers_than_processors(helpers: object) -> None:
    def pids(_: int) -> set[object]:
        return set(values(map_isolated(helpers.pid_after, [0.02] * 60, workers=2, chunk=1)))  # type: ignore[attr-defined]

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(pids, range(4)))
    assert len(set.union(*found)) == 2


@pytest.mark.usefixtures("two_processors")
def test_a_map_that_is_left_alone_borrows_the_others_worker(helpers: object) -> None:
    short = map_isolated(helpers.pid_of, range(9), chunk=1)  # type: ignore[attr-defined]
    others = next(short).value
    long = map_isolated(helpers.pid_after, [0.02] * 100, workers=2, chunk=1)  # type: ignore[attr-defined]
    own = next(long).value
    assert set(values(short)) == {others}
    assert set(values(long)) == {own, others}


@pytest.mark.usefixtures("two_processors")
def test_a_borrowed_worker_goes_back_to_a_map_that_has_none(helpers: object) -> None:
    with ThreadPoolExecutor(1) as threads:
        long = threads.submit(values, map_isolated(helpers.pid_after, [0.01] * 600, workers=2, chunk=1))  # type: ignore[attr-defined]
        until(lambda: len(pool_processes._staff.working) == 2 or long.done())
        (other,) = values(map_isolated(helpers.pid_of, [0]))  # type: ignore[attr-defined]
        pids = long.result()
    assert len(set(pids)) == 2
    assert other in pids
    assert pids.index(other) < 599


@pytest.mark.usefixtures("two_processors")
def test_a_map_does_not_wait_for_ever_for_a_worker_that_another_keeps(
    helpers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_processes, "WAITING_SECONDS", 0.1)
    paused = map_isolated(helpers.pid_after, [0.1] * 40, workers=2, chunk=1)  # type: ignore[attr-defined]
    seen: set[object] = set()
    while len(seen) < 2:  # and is not asked for the next outcome, so that it gives nothing back
        seen.add(next(paused).value)
    assert len(set(values(map_isolated(helpers.pid_of, [0]))) - seen) == 1  # type: ignore[attr-defined]


@pytest.mark.usefixtures("two_processors")
def test_a_map_whose_own_worker_dies_goes_on_with_the_borrowed_one(helpers: object) -> None:
    outcomes = map_isolated(helpers.pid_after, [0.02] * 100, workers=2, chunk=1)  # type: ignore[attr-defined]
    own = next(outcomes).value
    seen = [own]
    while set(seen) == {own}:
        seen.append(next(outcomes).value)
    assert isinstance(own, int)
    os.kill(own, signal.SIGKILL)
    seen += values(outcomes)
    assert len(seen) == 100
    assert None not in seen
    assert seen[-1] != own


def test_a_process_that_shares_the_processors_takes_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = processors()
    monkeypatch.setenv(SHARE, "3")
    assert processors() == 3
    for nonsense in ("", "0", "-1", "many"):
        monkeypatch.setenv(SHARE, nonsense)
        assert processors() == allowed


def test_a_server_of_workers_killed_by_hand_is_replaced(helpers: object) -> None:
    outcomes = map_isolated(helpers.pid_after, [0.01] * 100, workers=2, chunk=1)  # type: ignore[attr-defined]
    own = next(outcomes).value
    assert isinstance(own, int)
    server = psutil.Process(own).parent()
    assert server is not None
    server.kill()
    os.kill(own, signal.SIGKILL)
    assert None not in values(outcomes)
    assert values(map_isolated(helpers.misbehave, ["a"])) == ["aa"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("two_processors")
def test_a_server_that_nobody_wants_ends_and_is_replaced(
    helpers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = pool_fork_server.PROGRAM.replace(
        "s.serve", "s.REST_SECONDS = s.pool_worker.REST_SECONDS = 0.1; s.serve"
    )
    monkeypatch.setattr(pool_fork_server, "PROGRAM", soon)
    (first,) = values(map_isolated(helpers.pid_of, [0]))  # type: ignore[attr-defined]
    assert isinstance(first, int)
    server = psutil.Process(first).ppid()
    until(lambda: not _alive(first) and not _alive(server))
    assert values(map_isolated(helpers.misbehave, ["a"])) == ["aa"]  # type: ignore[attr-defined]


def test_a_worker_killed_at_rest_is_replaced(helpers: object) -> None:
    (pid,) = values(map_isolated(helpers.pid_of, [0]))  # type: ignore[attr-defined]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    assert values(map_isolated(helpers.misbehave, ["a"])) == ["aa"]  # type: ignore[attr-defined]


def test_a_worker_that_nobody_wants_ends() -> None:
    ours, theirs = socket.socketpair()
    program = f"from tasks import pool_worker as w; w.REST_SECONDS = 0.1; w.serve({theirs.fileno()})"
    with ours, theirs:
        done = subprocess.run(
            [sys.executable, "-c", program], pass_fds=[theirs.fileno()], check=True, timeout=60
        )
    assert done.returncode == 0


def test_a_forked_child_leaves_its_parents_workers_alone() -> None:
    program = (
        "import math, os\nfrom tasks.pool import map_isolated\nfrom tasks import pool_processes\n"
        "list(map_isolated(math.sqrt, [4.0]))\n"
        "resting = lambda: [worker.pid for worker in pool_processes._staff.resting]\n"
        "(pid,) = resting()\n"
        "if (child := os.fork()) == 0:\n"
        "    assert [o.value for o in map_isolated(math.sqrt, [9.0])] == [3.0]\n"
        "    raise SystemExit(0 if resting() != [pid] else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert [o.value for o in map_isolated(math.sqrt, [16.0])] == [4.0]\n"
        "assert resting() == [pid]\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_a_function_that_cannot_be_imported_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    only_here = types.ModuleType("only_here")
    exec("def double(item): return 2 * item", only_here.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    with pytest.raises(PoolError, match="could not load"):
        list(map_isolated(only_here.double, [1]))
    assert "only_here" in capfd.readouterr().err


def test_bounds_are_checked() -> None:
    for bad in ({"workers": 0}, {"chunk": 0}, {"timeout_s": 0.0}):
        with pytest.raises(ValueError, match="must be positive"):
            list(map_isolated(math.sqrt, [1.0], **bad))  # type: ignore[arg-type]


@pytest.mark.parametrize("left", ["next(outcomes)", "list(outcomes)"], ids=["in_a_loop", "at_rest"])
def test_an_orphaned_worker_ends(left: str) -> None:
    """A parent that is killed leaves nothing behind: the item's timer ends the loop, the server follows."""
    items = "[0, 30]" if left.startswith("next") else "[0]"
    program = (
        "import time\nfrom tasks.pool import map_isolated\n"
        f"outcomes = map_isolated(time.sleep, {items}, timeout_s=0.4, chunk=1)\n"
        f"{left}; import psutil\n"
        "print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)\n"
        "time.sleep(30)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    server, worker = map(int, parent.stdout.readline().split())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until(lambda: not _alive(worker) and not _alive(server))


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
