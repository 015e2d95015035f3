"""The trainer: the same bits however often it is interrupted, and a clear stop when something is wrong."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tasks.gpt import checkpoint as checkpoints
from tasks.gpt import dial, launch, metrics, optim, pace, schedule
from tasks.gpt.checkpoint import Saver
from tasks.gpt.config import GuardConfig, TrainConfig
from tasks.gpt.device import Device
from tasks.gpt.distributed import World, token_shares
from tasks.gpt.errors import TrainingError, TrainingHaltedError
from tasks.gpt.estimate import count_parameters, flops_per_token, micro_batch
from tasks.gpt.guard import way_out
from tasks.gpt.metrics import MetricsWriter
from tasks.gpt.model import GPT, GPTConfig
from tasks.gpt.parts import Parts
from tasks.gpt.training import Trainer

VOCAB, CONTEXT = 60, 16


class Cyclic:
    """Endless sequences of a small pattern with noise, the same for the same number."""

    def __init__(self, rows: int = 4, poisoned: frozenset[int] = frozenset()) -> None:
        self.identity = {"rows": rows}
        self.rows = rows
        self.poisoned = poisoned

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(index)
        start = generator.integers(0, VOCAB, (self.rows, 1))
        tokens = (start + 3 * np.arange(CONTEXT + 1)) % VOCAB
        if index in self.poisoned:
            tokens = generator.integers(0, VOCAB, tokens.shape)
        return tokens[:, :-1].copy(), tokens[:, 1:].copy()

    def documents(self, index: int) -> list[str]:
        return [f"document-{index}"]


def config(**changes: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "model": {"layers": 2, "heads": 2, "width": 32, "context": CONTEXT},
        "steps": 30,
        "batch_sequences": 4,
        "schedule": {"warmup_steps": 3},
        "held_out": {"every_steps": 10},
        "checkpoints": {"every_steps": 7},
        "precision": "float32",
    }
    return TrainConfig.model_validate({**base, **changes})


OPEN: list[MetricsWriter] = []
RATE = 3e-3
"""Learning rate of the loop that training is compared with."""


@pytest.fixture(autouse=True)
def _close_metrics() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads wait on each other for ever on a busy machine
    yield
    torch.set_num_threads(threads)
    while OPEN:
        OPEN.pop().close()


def parts(folder: Path, settings: TrainConfig, **changes: Any) -> Parts:
    model = GPT(GPTConfig(VOCAB, settings.model.layers, settings.model.heads, settings.model.width, CONTEXT))
    model.init_weights(settings.seed)
    writer = MetricsWriter(folder)
    OPEN.append(writer)
    built = Parts(
        model=model,
        config=settings,
        batches=Cyclic(),
        held_out=[Cyclic().batch(10_000), Cyclic().batch(10_001)],
        device=Device("cpu", 0, "float32", torch.get_num_threads()),
        micro_batch=4,
        saver=Saver(folder / "checkpoints", settings.checkpoints.keep, before=writer.sync),
        metrics=writer,
    )
    return replace(built, **changes)


def weights(trainer: Trainer) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in trainer.final_weights().values())


def test_losses_equal_a_plain_loop_step_for_step(tmp_path: Path) -> None:
    rates = dict.fromkeys(("matrix_lr", "embedding_lr", "vector_lr"), RATE)
    settings = config(optimizer={"kind": "adamw", "weight_decay": 0.0, **rates}, steps=10)
    made = parts(tmp_path, settings)
    plain = GPT(made.model.config)
    plain.load_state_dict(made.model.state_dict())
    Trainer(made).run()
    adam = torch.optim.AdamW(plain.parameters(), lr=1.0, betas=(0.9, 0.95), weight_decay=0.0)
    expected = []
    for step in range(10):
        for group in adam.param_groups:
            group["lr"] = RATE * schedule.factor(step, 10, settings.schedule)
        x, y = (torch.from_numpy(a) for a in Cyclic().batch(step))
        logits = plain(x)[0]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        expected.append(loss.item())
    assert [row["loss"] for row in metrics.curve(tmp_path)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("precision", "micro"), [("float32", 4), ("bf16", 4), ("bf16", 1)])
def test_the_loss_falls(tmp_path: Path, precision: Any, micro: int) -> None:
    device = Device("cpu", 0, precision, torch.get_num_threads())
    Trainer(parts(tmp_path, config(steps=60), device=device, micro_batch=micro)).run()
    rows = metrics.curve(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert rows[0]["loss"] == pytest.approx(math.log(VOCAB), abs=0.2)
    assert rows[-1]["loss"] < 2.0
    assert rows[59]["heldout_loss"] < 2.0
    assert rows[9]["tokens"] == 10 * 4 * CONTEXT


def test_micro_batches_change_nothing_but_rounding(tmp_path: Path) -> None:
    for name, size in (("whole", 4), ("uneven", 3), ("single", 1)):
        Trainer(parts(tmp_path / name, config(), micro_batch=size)).run()
    whole, uneven, single = (
        [row["loss"] for row in metrics.curve(tmp_path / name)] for name in ("whole", "uneven", "single")
    )
    assert whole == pytest.approx(single, abs=2e-3)
    assert whole == pytest.approx(uneven, abs=2e-3)


class Padded(Cyclic):
    """Packed sequences of which half are nearly empty."""

    def batch(self, index: int) -> tuple[np.ndarray, ...]:  # type: ignore[override]
        x, y = super().batch(index)
        pieces = np.zeros(x.shape, np.int32)
        pieces[self.rows // 2 :, 2:] = -1
        return x, y, pieces


def test_each_token_weighs_alike_in_micro_batches_that_are_padded_unequally(tmp_path: Path) -> None:
    for size in (4, 1):
        Trainer(parts(tmp_path / str(size), config(), micro_batch=size, batches=Padded())).run()
    whole, single = (metrics.curve(tmp_path / str(size)) for size in (4, 1))
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in whole] == pytest.approx([row[name] for row in single], rel=5e-3)


def test_each_token_weighs_alike_in_processes_that_are_padded_unequally(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, theirs = (np.where(np.arange(16) < tokens, 0, -1).reshape(1, 16) for tokens in (16, 4))
    monkeypatch.setattr(dist, "all_reduce", lambda count: count.add_(20 - count))
    device = Device("cpu", 0, "float32", 1)
    for pieces, share in ((mine, 2 * 16 / 20), (theirs, 2 * 4 / 20)):  # gradients are averaged over two
        [found] = token_shares((pieces, pieces, pieces), 1, World(size=2), device)
        assert float(found) == pytest.approx(share)


@pytest.mark.parametrize(("kind", "precision"), [("muon", "float32"), ("adamw", "float32"), ("muon", "bf16")])
def test_stopped_and_resumed_is_bit_identical(tmp_path: Path, kind: str, precision: Any) -> None:
    settings = config(optimizer={"kind": kind})
    device = Device("cpu", 0, precision, torch.get_num_threads())
    straight = Trainer(parts(tmp_path / "straight", settings, device=device))
    straight.run()
    for at in (1, 9, 10, 29):
        seen = stop_after(at)
        first = Trainer(parts(tmp_path / "cut", settings, stop=seen, device=device))
        assert first.run().state in {"stopped", "finished"}
    last = Trainer(parts(tmp_path / "cut", settings, device=device))
    assert last.run().state == "finished"
    assert weights(last) == weights(straight)
    assert metrics.curve(tmp_path / "cut") == metrics.curve(tmp_path / "straight")


def stop_after(looks: int) -> Callable[[], bool]:
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count >= looks

    return stop


def test_a_damaged_last_checkpoint_costs_steps_but_no_bits(tmp_path: Path) -> None:
    straight = Trainer(parts(tmp_path / "straight", config()))
    straight.run()
    Trainer(parts(tmp_path / "cut", config(), stop=stop_after(16))).run()
    newest = checkpoints.path_of(tmp_path / "cut/checkpoints", 16)
    (newest / checkpoints.WEIGHTS).write_bytes(b"damaged")
    again = Trainer(parts(tmp_path / "cut", config()))
    again.run()
    assert weights(again) == weights(straight)
    events = list(metrics.read_events(tmp_path / "cut"))
    assert any("step 16 is damaged" in event.get("text", "") for event in events)
    assert {"kind": "resumed", "step": 14} in events


def test_where_compiling_fails_training_goes_on_without_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_module: Any) -> Callable[..., Any]:
        def fail(*_tensors: Any) -> Any:
            raise RuntimeError("no C++ compiler")

        return fail

    straight = Trainer(parts(tmp_path / "straight", config()))
    straight.run()
    monkeypatch.setattr(torch, "compile", broken)
    made = parts(tmp_path / "broken", config(), compiled=True, numerics={"compile": True})
    trainer = Trainer(made)
    assert trainer.run().state == "finished"
    assert weights(trainer) == weights(straight)
    notes = [event["text"] for event in metrics.read_events(tmp_path / "broken") if event["kind"] == "note"]
    assert notes == ["torch.compile failed, going on without: RuntimeError('no C++ compiler')"]
    assert made.numerics["compile"] is False


def test_other_data_is_refused_on_resume(tmp_path: Path) -> None:
    Trainer(parts(tmp_path, config(), stop=stop_after(5))).run()
    with pytest.raises(TrainingError, match="rows was 4 and is 2"):
        Trainer(parts(tmp_path, config(), batches=Cyclic(rows=2))).run()


def test_a_spike_stops_with_step_documents_and_checkpoint(tmp_path: Path) -> None:
    settings = config(steps=60, guard={"spike_nats": 2.0})
    bad = parts(tmp_path, settings, batches=Cyclic(poisoned=frozenset({50})))
    with pytest.raises(
        TrainingHaltedError, match=r"step 51: .*document-50.* checkpoint is of step 49; set .*action to"
    ):
        Trainer(bad).run()
    assert checkpoints.steps_in(tmp_path / "checkpoints")[-1] == 49


def test_a_spike_rewinds_past_its_batch_alike_whether_killed_or_not(tmp_path: Path) -> None:
    settings = config(steps=60, guard={"spike_nats": 2.0, "action": "rewind", "checkpoint_steps": 10})
    poisoned = Cyclic(poisoned=frozenset({50}))
    straight = Trainer(parts(tmp_path / "straight", settings, batches=poisoned))
    assert straight.run().state == "finished"
    assert straight.position.batch == 61
    Trainer(parts(tmp_path / "cut", settings, batches=poisoned, stop=stop_after(53))).run()
    again = Trainer(parts(tmp_path / "cut", settings, batches=poisoned))
    again.run()
    assert weights(again) == weights(straight)


@pytest.mark.parametrize("stops", [[5], [47], [41, 2, 2, 2]])
def test_a_rewind_goes_back_as_far_whether_asked_to_stop_before_it_or_not(
    tmp_path: Path, stops: list[int]
) -> None:
    rule = {"spike_nats": 2.0, "action": "rewind", "checkpoint_steps": 20}
    settings, poisoned = config(steps=60, guard=rule), Cyclic(poisoned=frozenset({50}))
    straight = Trainer(parts(tmp_path / "straight", settings, batches=poisoned, look_every=7))
    straight.run()
    for looks in stops:
        Trainer(parts(tmp_path / "cut", settings, batches=poisoned, stop=stop_after(looks))).run()
    again = Trainer(parts(tmp_path / "cut", settings, batches=poisoned))
    again.run()
    assert again.position == straight.position
    assert weights(again) == weights(straight)


def test_the_pace_after_a_rewind_is_that_of_the_steps_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.gpt.training.PACE_SECONDS", 0.0)
    rule = {"spike_nats": 2.0, "action": "rewind", "checkpoint_steps": 20}
    Trainer(parts(tmp_path, config(steps=60, guard=rule), batches=Cyclic(poisoned=frozenset({50})))).run()
    events = list(metrics.read_events(tmp_path))
    assert {"kind": "resumed", "step": 40} in events
    paces = [event for event in events if event["kind"] == "pace"]
    assert min(event["tokens_per_second"] for event in paces) > 0


def test_a_rewind_whose_checkpoints_are_damaged_stops(tmp_path: Path) -> None:
    rule = {"spike_nats": 2.0, "action": "rewind", "checkpoint_steps": 20}
    made = parts(tmp_path, config(steps=60, guard=rule))

    class Damaging(Cyclic):
        def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            if index == 50:
                made.saver.wait()
                for file in tmp_path.glob(f"checkpoints/step-*/{checkpoints.STATE}"):
                    file.write_text("damaged")
            return super().batch(index)

    made.batches = Damaging(poisoned=frozenset({50}))
    with pytest.raises(TrainingHaltedError, match="the checkpoints are damaged: run again to begin anew"):
        Trainer(made).run()


def test_a_process_that_does_not_see_the_checkpoint_yet_goes_back_with_the_leader(tmp_path: Path) -> None:
    """If it stopped by itself, the others would wait for it."""
    rule = {"spike_nats": 2.0, "action": "rewind", "checkpoint_steps": 10}
    settings, bad = config(steps=60, guard=rule), frozenset({50})
    leader = parts(tmp_path / "leader", settings, batches=Cyclic(poisoned=bad), stop=stop_after(50))
    Trainer(leader).run()
    made, here = (checkpoints.path_of(tmp_path / name / "checkpoints", 50) for name in ("leader", "follower"))

    class Follower(World):
        """Sees the checkpoint of step 50 once the leader has told of it."""

        def from_leader(self, _value: int) -> int:
            shutil.copytree(made, here, dirs_exist_ok=True)
            return 50

    class Unseen(Cyclic):
        def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            shutil.rmtree(here, ignore_errors=True)
            return super().batch(index)

    follower = parts(tmp_path / "follower", settings, batches=Unseen(poisoned=bad), world=Follower(rank=1))
    trainer = Trainer(follower)
    assert trainer.run().state == "finished"
    assert trainer.position.batch == 61


def test_a_loss_that_is_no_number_is_never_saved(tmp_path: Path) -> None:
    made = parts(tmp_path, config(steps=20, checkpoints={"every_steps": 1, "keep": 50}))
    trainer = Trainer(made)

    class Poison(Cyclic):
        def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            if index == 5:
                with torch.no_grad():
                    trainer.model.wte.weight.fill_(math.nan)
            return super().batch(index)

    made.batches = Poison()
    with pytest.raises(TrainingHaltedError, match="step 6: loss nan"):
        trainer.run()
    assert checkpoints.steps_in(tmp_path / "checkpoints") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("rule", "checkpoint", "advice"),
    [
        ({"action": "stop"}, 90, "set train.guard.action to rewind"),
        ({"action": "rewind"}, None, "set train.guard.checkpoint_steps below its 100"),
        ({"action": "rewind", "rewinds": 2}, 90, "set train.guard.rewinds above its 2"),
    ],
)
def test_a_halt_says_which_setting_leads_past_it(
    rule: dict[str, Any], checkpoint: int | None, advice: str
) -> None:
    assert way_out(GuardConfig(**rule), checkpoint).startswith(advice)


class Unlearnable(Cyclic):
    """Held-out text gets worse as the pattern is learnt."""

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = super().batch(index)
        return x, (y + 7) % VOCAB


def test_early_stop_keeps_the_best_weights(tmp_path: Path) -> None:
    settings = config(steps=200, held_out={"every_steps": 2, "patience": 3}, checkpoints={"keep": 1})
    held_out = [Unlearnable().batch(1)]
    trainer = Trainer(parts(tmp_path, settings, held_out=held_out))
    outcome = trainer.run()
    assert outcome.step < 200
    assert outcome.best_step < outcome.step
    assert trainer.held_out_loss() == pytest.approx(outcome.best_loss)


def test_steps_are_judged_and_told_before_a_held_out_loss_saves_or_ends_the_run(tmp_path: Path) -> None:
    """On a GPU, where losses are read ten steps at a time."""
    settings = config(
        steps=200, held_out={"every_steps": 7, "patience": 2}, checkpoints={"every_steps": 1000}
    )
    made = parts(tmp_path, settings, held_out=[Unlearnable().batch(1)], look_every=10)
    outcome = Trainer(made).run()
    assert [row["step"] for row in metrics.curve(tmp_path)] == list(range(1, outcome.step + 1))
    saved = [checkpoints.read_state(made.saver.folder, s) for s in checkpoints.steps_in(made.saver.folder)]
    assert [state["guard"]["seen"] for state in saved] == [state["step"] for state in saved]


def test_best_weights_that_are_damaged_are_said_and_not_replaced_by_others(tmp_path: Path) -> None:
    settings = config(steps=200, held_out={"every_steps": 2, "patience": 3}, checkpoints={"keep": 1})
    made = parts(tmp_path, settings, held_out=[Unlearnable().batch(1)])
    trainer = Trainer(made)
    trainer.run()
    best = checkpoints.path_of(made.saver.folder, trainer.position.best_step) / checkpoints.WEIGHTS
    best.write_bytes(best.read_bytes()[:-1])
    again = Trainer(parts(tmp_path, settings, held_out=[Unlearnable().batch(1)]))
    with pytest.raises(TrainingError, match=r"best held-out loss, are lost: .*; remove .* to train anew"):
        again.run()


def test_metrics_ignore_torn_lines_and_prefer_the_later_start(tmp_path: Path) -> None:
    row = {"kind": "step", "step": 1, "tokens": 4, "lr": 0.1, "grad_norm": 1.0}
    first = json.dumps({**row, "loss": 3.0}) + "\n" + json.dumps({**row, "loss": 2.0})[:-5]
    (tmp_path / "metrics-0001.jsonl").write_text(first)
    assert metrics.curve(tmp_path)[0]["loss"] == 3.0
    writer = MetricsWriter(tmp_path)
    writer.write(**{**row, "loss": 1.0})
    writer.close()
    assert metrics.curve(tmp_path)[0]["loss"] == 1.0


def test_estimates_count_what_is_there() -> None:
    shape = GPTConfig(vocab_size=50257, n_layer=12, n_head=12, n_embd=768, block_size=1024)
    assert count_parameters(shape) == 124_439_808
    assert flops_per_token(shape) == pytest.approx(0.854e9, rel=0.01)
    small = GPTConfig(VOCAB, 2, 2, 32, CONTEXT)
    assert GPT(small).count_parameters() == count_parameters(small)


def test_automatic_micro_batches_are_equal_and_fit() -> None:
    shape = GPTConfig(VOCAB, 2, 2, 32, CONTEXT)
    options = {"precision": "bf16", "recompute": False, "device": "cuda"}
    one = 2 * 32 * (32 + 32) * CONTEXT
    assert micro_batch(shape, 12, budget=100 * one, **options) == 12
    assert micro_batch(shape, 12, budget=8 * one, **options) == 6
    assert micro_batch(shape, 12, budget=0, **options) == 1
    assert micro_batch(shape, 12, budget=2 * one, precision="bf16", recompute=True) > 2


def test_micro_batches_leave_room_for_the_attention_that_a_cpu_keeps_in_bf16() -> None:
    shape = GPTConfig(VOCAB, 2, 8, 64, 1024)
    options = {"budget": 2.0**28, "recompute": False}
    on_gpu, on_cpu, in_float32 = (
        micro_batch(shape, 64, precision=precision, device=device, **options)
        for precision, device in (("bf16", "cuda"), ("bf16", "cpu"), ("float32", "cpu"))
    )
    scores = 2 * 8 * 2 * 1024**2 // 2  # layers, heads, bytes, pairs of positions
    assert on_cpu * (2 * 64 * 64 * 1024 + scores) <= 2**28 < on_gpu * (2 * 64 * 64 * 1024 + scores)
    assert on_cpu < in_float32 < on_gpu


def test_the_time_of_a_step_counts_the_optimizer_and_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    build = optim.build

    def slow(*given: Any) -> list[torch.optim.Optimizer]:
        made = build(*given)
        made[0].register_step_pre_hook(lambda *_: time.sleep(0.2))
        return made

    monkeypatch.setattr(optim, "build", slow)
    model = GPT(GPTConfig(VOCAB, 2, 2, 32, CONTEXT))
    model.init_weights(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    device = Device("cpu", 0, "float32", 1)
    assert 0.2 < launch._step_seconds(model, config(), device, 4, World()) < 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_heads_that_do_not_divide_the_width_are_refused_with_what_would() -> None:
    with pytest.raises(ValueError, match=r"heads: 5 does not divide width 32: choose one of \[1, 2, 4, 8"):
        config(model={"heads": 5, "width": 32})


def test_settings_that_could_not_work_together_are_refused_with_the_mend() -> None:
    with pytest.raises(ValueError, match=r"patience: 3 waits for held-out losses, but every_steps is 0"):
        config(held_out={"every_steps": 0, "patience": 3})
    with pytest.raises(ValueError, match=r"batch_sequences: 4 cannot be shared .* by 3 .* such as 6"):
        config(hardware={"processes": 3})


def test_the_dial_gives_larger_models_more_tokens_in_larger_batches() -> None:
    small, large = dial.from_depth(3, 4096), dial.from_depth(12, 4096)
    assert (small.model.width, small.model.heads) == (192, 3)
    assert (large.model.width, large.model.heads) == (768, 12)
    assert large.steps * large.batch_sequences > 30 * small.steps * small.batch_sequences
    assert large.batch_sequences > small.batch_sequences
    assert dial.from_depth(4, 4096).optimizer.embedding_lr == TrainConfig().optimizer.embedding_lr
    assert large.optimizer.embedding_lr == 3.5e-3
    assert small.optimizer.embedding_lr == 6.9e-3


def test_the_dial_fits_the_time() -> None:
    for minutes in (1, 10, 600):
        recipe = dial.from_minutes(minutes, 4096, 60e9)
        shape = dial.shape_of(recipe.model.layers, 4096, recipe.model.context)
        tokens = recipe.steps * recipe.batch_sequences * recipe.model.context
        assert tokens * flops_per_token(shape) == pytest.approx(minutes * 60 * 60e9, rel=0.02)
    with pytest.raises(ValueError, match="both must be more than nothing"):
        dial.from_minutes(0, 4096, 60e9)


def test_the_recipe_for_some_minutes_settles_on_the_rate_that_it_reaches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def faster_when_larger(recipe: TrainConfig, _vocabulary: int) -> float:
        asked.append(recipe.model.layers)
        return 1e12 * recipe.model.layers

    monkeypatch.setattr(pace, "training_rate", faster_when_larger)
    recipe, rate = pace.recipe_for(10, 4096)
    assert asked[-1] == recipe.model.layers > 2
    assert recipe == dial.from_minutes(10, 4096, rate)


def test_the_rate_is_measured_in_pieces_that_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Watched(GPT):
        def forward(self, idx_BT: torch.Tensor, *more: Any) -> Any:
            sizes.append(len(idx_BT))
            return super().forward(idx_BT, *more)

    monkeypatch.setattr(pace, "GPT", Watched)
    recipe = config(steps=1, batch_sequences=4, hardware={"threads": 1, "memory_gb": 1e-9})
    pace.training_rate(recipe, 64, seconds=0.01)
    assert set(sizes) == {1}


def test_the_rate_is_that_of_whole_steps() -> None:
    recipe = config(steps=1)
    assert 1e6 < pace.training_rate(recipe, 64, seconds=0.01) < 1e14
