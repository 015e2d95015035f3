"""Checkpoints are whole or absent, pruned by rule, and damage is noticed."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tasks.gpt import checkpoint
from tasks.gpt.checkpoint import Checkpoint, CheckpointError, Saver


def of_step(step: int) -> Checkpoint:
    weights = {"w": torch.full((3,), float(step))}
    return Checkpoint(weights, {"w:moment": torch.ones(2), "rng:cpu": torch.get_rng_state()}, {"step": step})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, of_step(7))
    found = checkpoint.read(tmp_path, 7)
    assert torch.equal(found.weights["w"], torch.full((3,), 7.0))
    assert found.state == {"step": 7}
    assert torch.equal(found.optimizer["rng:cpu"], torch.get_rng_state())


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_last_checkpoint_gives_the_one_before_and_says_so(
    tmp_path: Path, name: str, damage: str
) -> None:
    checkpoint.write(tmp_path, of_step(5))
    path = checkpoint.write(tmp_path, of_step(10)) / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    said: list[str] = []
    found = checkpoint.read_last(tmp_path, said.append)
    assert found is not None
    assert found.step == 5
    assert len(said) == 1
    assert "step 10 is damaged" in said[0]
    assert checkpoint.steps_in(tmp_path) == [5]


def test_another_digit_in_the_state_is_damage(tmp_path: Path) -> None:
    state = checkpoint.write(tmp_path, Checkpoint({}, {}, {"step": 10, "batch": 13})) / checkpoint.STATE
    state.write_text(state.read_text().replace('"batch": 13', '"batch": 12'))
    for read in (checkpoint.read, checkpoint.read_state):
        with pytest.raises(CheckpointError, match=r"state.json is not as it was written"):
            read(tmp_path, 10)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.read_last(tmp_path / "absent", print) is None


def test_a_half_written_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, of_step(5))
    left = tmp_path / f"{checkpoint.TEMPORARY}{checkpoint.PREFIX}00000009"
    left.mkdir()
    (left / checkpoint.WEIGHTS).write_bytes(b"half")
    assert checkpoint.steps_in(tmp_path) == [5]
    Saver(tmp_path, keep=2)
    assert not left.exists()


def test_the_last_few_and_the_best_are_kept(tmp_path: Path) -> None:
    saver = Saver(tmp_path, keep=2)
    for step in (10, 20, 30, 40, 50):
        saver.save(of_step(step), pinned={20})
    saver.wait()
    assert checkpoint.steps_in(tmp_path) == [20, 40, 50]


def test_what_must_be_durable_first_is_asked_for_first(tmp_path: Path) -> None:
    seen: list[list[int]] = []
    saver = Saver(tmp_path, keep=1, before=lambda: seen.append(checkpoint.steps_in(tmp_path)))
    saver.save(of_step(1))
    saver.save(of_step(2))
    saver.wait()
    assert seen == [[], [1]]


def test_a_failed_write_is_raised_where_the_trainer_looks(tmp_path: Path) -> None:
    saver = Saver(tmp_path / "folder", keep=1)
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").write_text("a file where the folder should be")
    saver.save(of_step(1))
    with pytest.raises(CheckpointError, match="make room"):
        saver.wait()
    saver.wait()


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """No file of this process grows beyond ``size`` bytes while the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, of_step(5))
    large = Checkpoint({"w": torch.zeros(100_000)}, {}, {"step": 6})
    with disk_full_after(10_000), pytest.raises(CheckpointError, match=r"step-00000006: .*; make room"):
        checkpoint.write(tmp_path, large)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_copies_do_not_follow_training() -> None:
    weight = torch.ones(3)
    copied = checkpoint.copies({"w": weight})
    weight.add_(1)
    assert torch.equal(copied["w"], torch.ones(3))
