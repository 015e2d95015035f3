"""The training loop: exact when interrupted, loud when something goes wrong.

Everything that decides the next bit of the weights is in a checkpoint: weights, optimizer, step, data
position, generators, guard. What was fixed at the first start and decides bits as well (threads, precision,
micro-batch, compile) is kept there too and taken again. So a run killed at any instant and started again
ends with the same bytes as one that was left alone.

The loop never waits for a GPU but where it looks: losses are read and judged ``look_every`` steps at a time,
always before a checkpoint, so that no bad step is ever saved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tasks.gpt import checkpoint as checkpoints
from tasks.gpt import optim, schedule, snapshot
from tasks.gpt.checkpoint import Checkpoint, CheckpointError
from tasks.gpt.compiling import compiled
from tasks.gpt.device import peak_memory, synchronise
from tasks.gpt.distributed import accumulating, places, spread, token_shares, whole
from tasks.gpt.errors import TrainingError, TrainingHaltedError
from tasks.gpt.estimate import flops_per_token
from tasks.gpt.guard import Guard, way_back, way_out
from tasks.gpt.parts import Outcome, Parts, Position

PACE_SECONDS = 1.0


class Trainer:
    """Runs a config to its end, from the last checkpoint where there is one."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.config, self.world, self.device = parts.config, parts.world, parts.device
        self.model = parts.model.to(parts.device.place)
        self.module = spread(self.model, parts.world, parts.device, parts.config.hardware.parallel)
        self.optimizers = optim.build(self.model, parts.config.optimizer)
        self.forward: Callable[..., Any] = self.module
        if parts.compiled:
            self.forward = compiled(self.module, self._compile_failed)
        self.position = Position()
        self.guard = Guard(parts.config.guard.spike_nats)
        self._unread: list[tuple[int, int, float, Tensor, Tensor]] = []
        self._saved_step, self._saved_at = -1, time.monotonic()
        self._pace = (time.monotonic(), 0)

    # ---- the run -------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Train to the end. Raises TrainingHaltedError where the guard stops it."""
        self.resume()
        while True:
            self._evaluate_if_due()
            if self._done():
                break
            self._take_step()
            if self._look_is_due() and self._look():
                return self._outcome("stopped")
        self._save()
        self.parts.saver.wait()
        if self.config.held_out.patience and self.position.best_step not in (0, self.position.step):
            self._take_best()
        return self._outcome("finished")

    def _done(self) -> bool:
        patience = self.config.held_out.patience
        return self.position.step >= self.config.steps or bool(patience and self.position.waited >= patience)

    def _take_step(self) -> None:
        """One optimizer step on the next global batch."""
        rate = schedule.factor(self.position.step, self.config.steps, self.config.schedule)
        optim.set_rates(self.optimizers, rate)
        loss = torch.zeros((), device=self.device.place)
        arrays = self.parts.batches.batch(self.position.batch)
        whole_batch = [self._tensor(array) for array in arrays]
        shares = token_shares(arrays, self.parts.micro_batch, self.world, self.device)
        starts = range(0, len(arrays[0]), self.parts.micro_batch)
        for start, share in zip(starts, shares, strict=True):
            micro = [tensor[start : start + self.parts.micro_batch] for tensor in whole_batch]
            with accumulating(self.module, last=start == starts[-1]):
                part = self._loss(self.forward, *micro) * share
                part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        norm = self._clip()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        lr = self.config.optimizer.matrix_lr * rate
        self._unread.append((self.position.step + 1, self.position.batch, lr, loss, norm))
        self.position.step += 1
        self.position.batch += 1

    def _loss(self, forward: Callable[..., Any], *tensors: Tensor) -> Tensor:
        with self.device.autocast():
            loss: Tensor = forward(*tensors)[1]
        return loss

    def _clip(self) -> Tensor:
        limit = self.config.optimizer.clip or math.inf
        return whole(nn.utils.clip_grad_norm_(self.model.parameters(), limit, foreach=True))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device.place, non_blocking=True)

    # ---- looking -------------------------------------------------------------------------------

    def _look_is_due(self) -> bool:
        """Every so many steps, and where the run may save or end: at its last, a held-out loss, the grid."""
        step, rule = self.position.step, self.config.guard
        due = step == self.config.steps or len(self._unread) >= self.parts.look_every
        on_grid = rule.action == "rewind" and step % rule.checkpoint_steps == 0
        return due or on_grid or self._evaluation_is_due()

    def _look(self) -> bool:
        """Read, judge and tell the steps since the last look, save if due; True where asked to stop."""
        wishes = [float(self.parts.stop()), float(self.world.leads and self._save_is_due())]
        losses = [float(loss) / self.world.size for _, _, _, loss, _ in self._unread]
        norms = [float(norm) for *_, norm in self._unread]
        stop, save, *losses = self.world.sum([*wishes, *losses])
        entries, self._unread = self._unread, []
        for (step, batch, lr, _, _), loss, norm in zip(entries, losses, norms, strict=True):
            complaint = self.guard.judge(loss, norm)
            tokens = step * self.config.batch_sequences * self.model.config.block_size
            self._tell("step", step=step, tokens=tokens, loss=loss, lr=lr, grad_norm=norm)
            if complaint:
                self._go_back_or_halt(complaint, step, batch)
                return False
        self._tell_pace()
        if save or stop:
            self._save()
        if stop:
            self.parts.saver.wait()
            self._tell("stopped", step=self.position.step)
        return bool(stop)

    def _go_back_or_halt(self, complaint: str, step: int, batch: int) -> None:
        rule = self.config.guard
        self.parts.saver.wait()
        documents = self.parts.batches.documents(batch)
        last = self._last_before(step)
        going_back = rule.action == "rewind" and last is not None and self.position.rewinds < rule.rewinds
        where = (
            "there is no checkpoint yet" if last is None else f"the last good checkpoint is of step {last}"
        )
        names = ", ".join(documents[:5]) + (" …" if len(documents) > 5 else "")
        text = f"step {step}: {complaint}; batch {batch} holds documents {names}; {where}"
        details = {"step": step, "batch": batch, "documents": documents, "checkpoint": last}
        if not going_back:
            text = f"{text}; {way_out(rule, last)}"
            self._tell("halted", text=text, reason=complaint, **details)
            raise TrainingHaltedError(text)
        self._tell("note", text=f"{text}; going back to it and on after that batch", **details)
        rewinds = self.position.rewinds + 1
        if not self.resume(through=last):
            raise TrainingHaltedError(f"{text}; the checkpoints are damaged: run again to begin anew")
        self.position.rewinds, self.position.batch = rewinds, batch + 1

    def _last_before(self, step: int) -> int | None:
        """The last checkpoint before a step, as the leader sees it: another process may look too soon."""
        saved = checkpoints.steps_in(self.parts.saver.folder)
        found = way_back(self.config.guard, saved, step, self._best_saved())
        last = self.world.from_leader(-1 if found is None else found)
        return None if last < 0 else last

    def _best_saved(self) -> int:
        """The step with the best held-out loss, where the best are saved; else 0."""
        return self.position.best_step if self.config.held_out.patience else 0

    def _tell(self, kind: str, **fields: Any) -> None:
        self.parts.metrics.write(kind, **fields)

    def _tell_pace(self) -> None:
        since, step = self._pace
        now, steps = time.monotonic(), self.position.step - step
        if now - since < PACE_SECONDS or not steps:
            return
        synchronise(self.device)
        tokens = steps * self.config.batch_sequences * self.model.config.block_size
        speed = tokens / (now - since)
        ceiling = self.parts.ceiling * self.world.size
        self._tell(
            "pace",
            step=self.position.step,
            tokens_per_second=speed,
            step_ms=1000 * (now - since) / steps,
            mfu=speed * flops_per_token(self.model.config) / ceiling if ceiling else None,
            memory_bytes=peak_memory(self.device),
            seconds_left=(self.config.steps - self.position.step) * (now - since) / steps,
        )
        self._pace = (now, self.position.step)

    # ---- held-out loss -------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        every, step = self.config.held_out.every_steps, self.position.step
        if not every or not self.parts.held_out or self.position.evaluated == step:
            return False
        return step % every == 0 or step == self.config.steps

    def _evaluate_if_due(self) -> None:
        if not self._evaluation_is_due():
            return
        position = self.position
        loss = self.held_out_loss()
        position.evaluated = position.step
        self._tell("held_out", step=position.step, loss=loss)
        if loss < position.best_loss:
            position.best_step, position.best_loss, position.waited = position.step, loss, 0
            if self.config.held_out.patience:
                self._save()
        else:
            position.waited += 1

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Mean loss in nats a token over the held-out sequences, each process doing its share.

        All processes do as many forward passes, since under FSDP each is a joint one; where the batches do
        not come out even, the surplus counts nothing.
        """
        self.model.eval()
        batches = self.parts.held_out
        total = tokens = 0.0
        for first in range(0, len(batches), self.world.size):
            index = first + self.world.rank
            batch = batches[index % len(batches)]
            loss = float(self._loss(self.module, *map(self._tensor, batch)))
            if index < len(batches):
                count = places(batch)
                total, tokens = total + loss * count, tokens + count
            self._tell("alive")
        self.model.train()
        total, tokens = self.world.sum([total, tokens])
        return total / tokens

    # ---- saving and resuming -------------------------------------------------------------------

    def _save_is_due(self) -> bool:
        rule, step = self.config.checkpoints, self.position.step
        if self.config.held_out.patience and self._evaluation_is_due():
            return False  # the evaluation saves, with its result, if this step is the best
        every = (
            self.config.guard.checkpoint_steps if self.config.guard.action == "rewind" else rule.every_steps
        )
        if every:
            return step // every > max(self._saved_step, 0) // every
        return time.monotonic() - self._saved_at >= rule.every_seconds and not self.parts.saver.busy

    def _save(self) -> None:
        """Copy everything and start writing it, unless this step is saved already."""
        if self.position.step == self._saved_step:
            return
        taken = self._snapshot()
        self._saved_step, self._saved_at = self.position.step, time.monotonic()
        if self.world.leads:
            rule, step = self.config.guard, self.position.step
            grid = step - step % rule.checkpoint_steps if rule.action == "rewind" else 0
            self.parts.saver.save(taken, pinned={grid, self._best_saved()})
            self._tell("checkpoint", step=self.position.step)

    def _snapshot(self) -> Checkpoint:
        position = asdict(self.position)
        if not self.position.best_step:
            position["best_loss"] = None  # infinity is not JSON
        state = {**position, "guard": self.guard.state(), "numerics": self.parts.numerics}
        state["data"] = self.parts.batches.identity
        moments = snapshot.moments_of(self.model, self.optimizers, self.device)
        return Checkpoint(snapshot.weights_of(self.model), moments, state)

    def resume(self, through: int | None = None) -> bool:
        """Take up the newest whole checkpoint, up to a step, the same one on every process; False without."""
        folder = self.parts.saver.folder
        found = (
            checkpoints.read_last(folder, lambda text: self._tell("note", text=text), through)
            if self.world.leads
            else None
        )
        step = self.world.from_leader(-1 if found is None else found.step)
        if step < 0:
            return False
        taken = found or checkpoints.read(folder, step)
        self._check_data(taken.state["data"])
        snapshot.put_weights(self.model, taken.weights)
        snapshot.put_moments(self.model, self.optimizers, self.device, taken.optimizer)
        state = {key: taken.state[key] for key in Position.__dataclass_fields__}
        self.position = Position(**state)
        if state["best_loss"] is None:
            self.position.best_loss = math.inf
        self.guard.restore(taken.state["guard"])
        self._unread.clear()
        self._saved_step, self._saved_at = step, time.monotonic()
        self._pace = (self._saved_at, step)
        self._tell("resumed", step=step)
        return True

    def _check_data(self, saved: dict[str, Any]) -> None:
        now = self.parts.batches.identity
        changed = [
            f"{key} was {saved.get(key)!r} and is {now[key]!r}" for key in now if saved.get(key) != now[key]
        ]
        if changed:
            raise TrainingError(
                f"the checkpoint was made over other data or in another order: {'; '.join(changed)}; restore "
                f"them, or remove {self.parts.saver.folder} to begin anew"
            )

    def _take_best(self) -> None:
        """Put the best weights in place of the last. Raises TrainingError where they are damaged."""
        folder, step = self.parts.saver.folder, self.position.best_step
        self.world.from_leader(0)  # all are here once the leader has written its last
        try:
            best = checkpoints.read(folder, step)
        except CheckpointError as error:
            raise TrainingError(
                f"the weights of step {step}, which had the best held-out loss, are lost: {error}; remove "
                f"{folder} to train anew"
            ) from error
        snapshot.put_weights(self.model, best.weights)

    def final_weights(self) -> dict[str, Tensor]:
        """Copies of the whole weights, on every process."""
        return snapshot.weights_of(self.model)

    def _compile_failed(self, why: str) -> None:
        self._tell("note", text=why)
        self.forward = self.module
        self.parts.numerics["compile"] = False

    def _outcome(self, state: Literal["finished", "stopped"]) -> Outcome:
        best = self.position.best_loss
        return Outcome(state, self.position.step, self.position.best_step, best)
