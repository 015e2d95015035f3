"""What makes a function a stage: its cache key, its commit, its retries and its progress, in one place.

A stage is written as a plain function of a :class:`StageRun`, artifacts and a config; ``@stage`` makes it
a Prefect task whose cache policy asks the store. A hit needs the artifact to be whole, whatever Prefect
remembers: Prefect's result record lives inside the artifact's folder and is written and removed with it,
so that the UI says Cached exactly when the store has the thing.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, cast

from storage.artifacts import Artifact, Parent, Recipe
from storage.store import RECORD, Draft, Store, open_store
from tasks.fingerprint import canonical, code_digests
from tasks.journal import Entry, record
from tasks.planning import Plan, Step, active_plan, pending_in
from tasks.progress import Event, Progress, tell
from tasks.retry import can_succeed_next_time
from tasks.run_log import StageLog, stage_log

if TYPE_CHECKING:  # a second and 50 MB that a stage without a flow around it can do without
    from prefect import Task
    from prefect.client.schemas.objects import State
    from prefect.context import TaskRunContext
    from prefect.results import ResultStore

P = ParamSpec("P")
StageFunction = Callable[Concatenate["StageRun", P], dict[str, Any]]


@dataclass
class StageRun:
    """What a stage's function works with: its folder, the store, a progress reporter and a log."""

    draft: Draft
    store: Store
    progress: Progress
    log: StageLog
    key: str
    """Under which the artifact will be found."""

    @property
    def path(self) -> Path:
        """The folder to write into; empty, unless the stage is resumable and was cut off."""
        return self.draft.path

    @property
    def resumed(self) -> bool:
        """Whether files of an earlier, interrupted attempt are here."""
        return self.draft.resumed

    @property
    def rows(self) -> dict[str, int]:
        """Rows by file name, for the manifest."""
        return self.draft.rows

    @property
    def volatile(self) -> set[str]:
        """Names of files that may differ between identical runs: not in the artifact's digest."""
        return self.draft.volatile

    @property
    def identity(self) -> str | None:
        """A digest of what the artifact means, where that is not its bytes."""
        return self.draft.identity

    @identity.setter
    def identity(self, digest: str) -> None:
        """State it."""
        self.draft.identity = digest

    def open(self, artifact: Artifact) -> Path:
        """The local folder with a committed artifact's files."""
        return self.store.open(artifact)


@dataclass(frozen=True)
class PartFailure:
    """A mapped part that failed after its retries, while the others went on."""

    stage: str
    part: str
    error: BaseException


class Stage(Generic[P]):
    """A stage: call it in a flow to get its artifact, from the store or made now."""

    def __init__(
        self, name: str, function: StageFunction[P], *, summary: str, resumable: bool, retries: int
    ) -> None:
        self.name = name
        self.summary = summary
        self.function = function
        self.resumable = resumable
        self.retries = retries
        self.signature = _without_run(function)

    @cached_property
    def task(self) -> Task[..., Artifact]:
        """The stage as Prefect runs it."""
        from prefect import Task
        from prefect.cache_policies import CacheKeyFnPolicy
        from prefect.tasks import exponential_backoff

        return Task(
            fn=self._task_function(),
            name=self.name,
            description=self.summary,
            cache_policy=CacheKeyFnPolicy(cache_key_fn=self._cache_key),
            persist_result=True,
            result_serializer="json",
            retries=self.retries,
            retry_delay_seconds=exponential_backoff(backoff_factor=2),
            retry_jitter_factor=0.5,
            retry_condition_fn=can_succeed_next_time,
            # No tags: before a task with one starts, Prefect's server is asked for the tag's limit, so that
            # no stage would start any more where the server dies in the middle of a run.
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Artifact:
        """Run as a Prefect task of the surrounding flow and wait for the artifact.

        While a plan is being made (see :mod:`tasks.planning`), only look it up.
        """
        bound = self._bind(args, kwargs)
        if (plan := active_plan()) is not None:
            return self._planned(plan, "", bound)
        self.recipe(**bound)  # what cannot be fingerprinted is refused before any work
        started = time.monotonic()
        try:
            state = self._placed("")(**bound, return_state=True)
        except KeyboardInterrupt:
            record(Entry(self.name, "", "stopped", time.monotonic() - started))
            raise
        return self._settle(state, "", started)

    def map(
        self, parts: Iterable[Any], *args: Any, labels: Iterable[str] = (), **kwargs: Any
    ) -> tuple[list[Artifact], list[PartFailure]]:
        """Run once for each part (the first argument) on the flow's task runner; one may fail alone.

        Returns the artifacts, in the order of the parts, and the failures.
        """
        parts = list(parts)
        names = list(labels) or [str(i) for i in range(len(parts))]
        calls = [self._bind((part, *args), kwargs) for part in parts]
        if (plan := active_plan()) is not None:
            return [self._planned(plan, name, call) for name, call in zip(names, calls, strict=True)], []
        for call in calls:
            self.recipe(**call)
        started = time.monotonic()
        futures = [self._placed(name).submit(**call) for name, call in zip(names, calls, strict=True)]
        artifacts, failures = [], []
        for future, name in zip(futures, names, strict=True):
            future.wait()
            try:
                artifacts.append(self._settle(future.state, name, started))
            except Exception as error:
                failures.append(PartFailure(self.name, name, error))
        return artifacts, failures

    def reuse(self, artifact: Artifact) -> Artifact:
        """Show an artifact that is kept from an earlier run as this stage's cached result."""
        if (plan := active_plan()) is not None:
            plan.steps.append(Step(self.name, "", "cached", ("kept from an earlier run",), artifact))
            return artifact
        from prefect import Task
        from prefect.cache_policies import CacheKeyFnPolicy

        place = f"{artifact.kind}/{artifact.key}/{RECORD}"

        def key(context: TaskRunContext, _arguments: dict[str, Any]) -> str:
            _write_record(context.result_store, place, artifact)
            return place

        task = Task(
            fn=lambda: artifact,
            name=self.name,
            description=self.summary,
            cache_policy=CacheKeyFnPolicy(cache_key_fn=key),
            persist_result=True,
            result_serializer="json",
            result_storage=open_store().records_root(),
            task_run_name=self.name,
        )
        started = time.monotonic()
        tell(Event(self.name, "", "cached", detail={"artifact": artifact}))
        return self._settle(task(return_state=True), "", started)

    def _planned(self, plan: Plan, label: str, arguments: dict[str, Any]) -> Artifact:
        """Look up instead of making; what is missing is stood for by a Pending, which only plans see."""
        pending = pending_in(arguments)
        if pending:
            return cast(Artifact, plan.wait_for(self.name, label, pending))
        return cast(Artifact, plan.look_up(self.name, label, self.recipe(**arguments)))

    def _settle(self, state: State[Artifact], label: str, started: float) -> Artifact:
        """Write the outcome into the journal; raise what the task raised."""
        seconds = time.monotonic() - started
        try:
            artifact = state.result()
        except BaseException as error:
            record(Entry(self.name, label, "failed", seconds, error=f"{type(error).__name__}: {error}"))
            raise
        cached = state.name == "Cached"
        own = seconds if cached or not label else artifact.seconds
        record(Entry(self.name, label, "cached" if cached else "completed", own, artifact))
        log = stage_log(self.name, label)
        log.info("taken from the store" if cached else f"done in {own:.1f} s")
        return artifact

    def recipe(self, **arguments: Any) -> Recipe:
        """What decides the result of a call with these arguments.

        Raises UnstableInputError, naming the argument, where one has no stable fingerprint.
        """
        return Recipe(
            stage=self.name,
            code=code_digests(self.function.__module__),
            inputs={name: canonical(value, f"{self.name}({name})") for name, value in arguments.items()},
        )

    def recipe_for(self, *args: Any, **kwargs: Any) -> Recipe:
        """As :meth:`recipe`, with arguments given as in a call."""
        return self.recipe(**self._bind(args, kwargs))

    def run_now(self, *args: P.args, **kwargs: P.kwargs) -> Artifact:
        """Make or adopt the artifact without Prefect: for tests, tools and other schedulers."""
        return self._make(self._bind(args, kwargs), label="", sinks=(), log=stage_log(self.name))

    def _placed(self, label: str) -> Task[..., Artifact]:
        store = open_store()
        run_name = f"{self.name}-{label}" if label else self.name
        return self.task.with_options(
            result_storage=store.records_root(), task_run_name=run_name.replace("{", "(").replace("}", ")")
        )

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def _task_function(self) -> Callable[..., Artifact]:
        from prefect.context import TaskRunContext

        from tasks.prefect_progress import PrefectProgress

        def run(*args: Any, **kwargs: Any) -> Artifact:
            arguments = self._bind(args, kwargs)
            context = TaskRunContext.get()
            name = context.task_run.name if context else ""
            label = name.removeprefix(self.name).lstrip("-")
            with PrefectProgress(self.name) as sink:
                return self._make(arguments, label, (sink,), stage_log(self.name, label))

        run.__signature__ = self.signature  # type: ignore[attr-defined]
        run.__name__ = run.__qualname__ = self.name
        run.__doc__ = self.summary
        run.__module__ = self.function.__module__
        return run

    def _make(
        self,
        arguments: dict[str, Any],
        label: str,
        sinks: tuple[Callable[[Event], None], ...],
        log: StageLog,
    ) -> Artifact:
        store, recipe = open_store(), self.recipe(**arguments)
        tell(Event(self.name, label, "started"))

        def work(draft: Draft) -> dict[str, Any]:
            progress = Progress(self.name, label, sinks)
            return self.function(StageRun(draft, store, progress, log, recipe.key), **arguments)  # type: ignore[call-arg]

        try:
            artifact = store.make(
                recipe,
                _parents(arguments),
                work,
                resumable=self.resumable,
                on_wait=lambda: log.info("another process is making this; waiting to adopt it"),
            )
        except BaseException as error:
            tell(Event(self.name, label, "stopped" if isinstance(error, KeyboardInterrupt) else "failed"))
            raise
        tell(Event(self.name, label, "completed", detail={"artifact": artifact}))
        return artifact

    def _cache_key(self, context: TaskRunContext, arguments: dict[str, Any]) -> str:
        """Ask the store, and make Prefect's record say the same."""
        recipe, store = self.recipe(**arguments), open_store()
        place = f"{recipe.stage}/{recipe.key}/{RECORD}"
        artifact = store.use(recipe.stage, recipe.key)
        if artifact is None:
            with suppress(FileNotFoundError):
                (store.records_root() / place).unlink()
        else:
            _write_record(context.result_store, place, artifact)
            label = context.task_run.name.removeprefix(self.name).lstrip("-")
            tell(Event(self.name, label, "cached", detail={"artifact": artifact}))
        return place


def stage(
    name: str, *, summary: str, resumable: bool = False, retries: int = 3
) -> Callable[[StageFunction[P]], Stage[P]]:
    """Make a function a stage called ``name``.

    ``resumable`` keeps the folder of an interrupted attempt for the next one. ``retries`` counts only
    failures that can succeed next time (see :mod:`tasks.retry`).
    """

    def decorate(function: StageFunction[P]) -> Stage[P]:
        return Stage(name, function, summary=summary, resumable=resumable, retries=retries)

    return decorate


def _without_run(function: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation=Artifact)


def _parents(arguments: Mapping[str, Any]) -> tuple[Parent, ...]:
    found: list[Parent] = []
    for value in arguments.values():
        items = value if isinstance(value, list | tuple) else [value]
        found += [item.as_parent() for item in items if isinstance(item, Artifact)]
    return tuple(found)


def _write_record(results: ResultStore, key: str, artifact: Artifact) -> None:
    results.persist_result_record(results.create_result_record(artifact, key=key))
