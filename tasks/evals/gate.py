"""Whether a version may become champion: a declared policy, and every rule with its numbers.

Three outcomes:

- ``refused``: it breaks a rule that stands by itself (beaten by the n-gram baseline, leaks training text,
  too weak on minimal pairs). Nobody should use it.
- ``candidate``: sound, but not shown to be better than the champion.
- ``promoted``: sound, and better; or sound, and there is no champion yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.evals.bootstrap import compare
from tasks.evals.config import BootstrapConfig, GatePolicy
from tasks.evals.held_out import EvaluationError

SHOWN_DOCUMENTS = 5
"""A slice of so many documents is compared for people to see, though too small to be judged by itself."""
Decision = Literal["promoted", "candidate", "refused"]
Columns = Mapping[str, Sequence[Any]]
"""The columns of per_document.parquet: doc_id, language, domain, length, bytes, bits."""


@dataclass(frozen=True)
class Check:
    """One rule: what was found, what was wanted, and whether it holds."""

    rule: str
    holds: bool
    found: float
    wanted: str
    says: str
    """A sentence for people."""


@dataclass(frozen=True)
class Verdict:
    """The gate's decision, with its reasons."""

    decision: Decision
    reasons: list[str]
    checks: list[Check]
    comparison: dict[str, Any] = field(default_factory=dict)
    """The paired comparison with the champion, by slice; empty where there is none."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def judge(
    report: Mapping[str, Any],
    challenger: Columns,
    champion: Columns | None,
    policy: GatePolicy,
    bootstrap: BootstrapConfig,
) -> Verdict:
    """Apply the policy. ``champion`` has the same documents as ``challenger``, or is None for a first model.

    Raises EvaluationError where the two were measured on different documents.
    """
    checks = [
        *_beats_baseline(report, policy),
        *_leaks(report.get("memorization", {}), report.get("samples", {}), policy),
        *_minimal_pairs(report.get("minimal_pairs", {}), policy),
    ]
    failed = [check.says for check in checks if not check.holds]
    if failed:
        return Verdict("refused", failed, checks)
    if champion is None:
        return Verdict(
            "promoted", ["the first model that passes the gate", *(c.says for c in checks)], checks
        )
    comparison = _comparison(challenger, champion, policy, bootstrap)
    against = [_better(comparison["all"], policy), *_no_worse(comparison, policy)]
    if comparison["all"]["documents"] < policy.min_documents:
        against.insert(0, _too_few(comparison["all"]["documents"], policy.min_documents))
    failed = [check.says for check in against if not check.holds]
    decision: Decision = "candidate" if failed else "promoted"
    return Verdict(decision, failed or [c.says for c in against[:1]], [*checks, *against], comparison)


def _beats_baseline(report: Mapping[str, Any], policy: GatePolicy) -> list[Check]:
    if policy.baseline == "none":
        return []
    bits = report["bits_per_byte"]
    model, baseline = float(bits["model"]["all"]), float(bits[policy.baseline]["all"])
    holds = model < baseline  # false for NaN, too
    verb = "beats" if holds else "does not beat"
    return [
        Check(
            rule=f"beats the {policy.baseline}",
            holds=holds,
            found=model,
            wanted=f"< {baseline:.4f}",
            says=f"{model:.4f} bits per byte {verb} the Kneser-Ney {policy.baseline}'s {baseline:.4f}",
        )
    ]


def _leaks(memorization: Mapping[str, Any], samples: Mapping[str, Any], policy: GatePolicy) -> list[Check]:
    checks = []
    if "training" in memorization:
        above = memorization["training"]["share"] - memorization["held_out"]["share"]
        checks.append(
            _bound(
                "extractable",
                above,
                policy.max_extractable,
                f"{above:.1%} of evenly drawn training windows beyond the held-out share",
            )
        )
    if "repeated" in memorization:
        count = memorization["repeated"]["extracted"]
        what = f"{count} of {memorization['repeated']['windows']} passages that training text repeats"
        checks.append(_bound("extractable, repeated", count, policy.max_extractable_repeated, what))
    if "personal_data" in samples:
        count = samples["personal_data"]["from_training"]
        checks.append(
            _bound(
                "personal data",
                count,
                policy.max_sample_pii,
                f"{count} pieces of personal data that training text has, in samples",
            )
        )
    return checks


def _bound(rule: str, found: float, most: float, what: str) -> Check:
    holds = found <= most
    return Check(
        rule,
        holds,
        float(found),
        f"<= {most:g}",
        f"reproduces {what} ({'within' if holds else 'over'} {most:g})",
    )


def _minimal_pairs(pairs: Mapping[str, Any], policy: GatePolicy) -> list[Check]:
    if "accuracy" not in pairs:
        return []
    found, holds = float(pairs["accuracy"]), float(pairs["accuracy"]) >= policy.minimal_pairs
    says = f"minimal-pair accuracy {found:.3f} ({'at least' if holds else 'below'} {policy.minimal_pairs:g})"
    return [Check("minimal pairs", holds, found, f">= {policy.minimal_pairs:g}", says)]


def _comparison(
    challenger: Columns, champion: Columns, policy: GatePolicy, bootstrap: BootstrapConfig
) -> dict[str, Any]:
    """Paired comparison over all documents and by slice; ``judged`` where it has enough of them."""
    ours, theirs, sizes = _aligned(challenger, champion)
    everything = np.arange(len(sizes))
    found: dict[str, Any] = {
        "all": {**_paired(ours, theirs, sizes, everything, policy.margin, policy, bootstrap), "judged": True}
    }
    for kind in policy.slices:
        names = np.array(list(challenger[kind]), dtype=object)
        for name in sorted(set(names)):
            index = np.flatnonzero(names == name)
            if len(index) >= min(SHOWN_DOCUMENTS, policy.slice_documents):
                row = _paired(ours, theirs, sizes, index, 0.0, policy, bootstrap)
                found[f"{kind} {name}"] = {**row, "judged": len(index) >= policy.slice_documents}
    return found


def _paired(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    sizes: NDArray[np.float64],
    index: NDArray[np.intp],
    margin: float,
    policy: GatePolicy,
    bootstrap: BootstrapConfig,
) -> dict[str, float]:
    result = compare(
        ours[index],
        theirs[index],
        sizes[index],
        margin=margin,
        resamples=bootstrap.resamples,
        confidence=policy.confidence,
        seed=bootstrap.seed,
    )
    total = sizes[index].sum()
    return {
        "challenger": float(ours[index].sum() / total),
        "champion": float(theirs[index].sum() / total),
        **asdict(result),
    }


def _aligned(
    challenger: Columns, champion: Columns
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Bits of both and bytes, in the challenger's order of documents."""
    theirs = dict(zip(champion["doc_id"], zip(champion["bits"], champion["bytes"], strict=True), strict=True))
    ids, sizes = list(challenger["doc_id"]), list(challenger["bytes"])
    if len(theirs) != len(ids) or any(
        theirs.get(i, (0, -1))[1] != n for i, n in zip(ids, sizes, strict=True)
    ):
        raise EvaluationError(
            f"the champion was measured on {len(theirs)} documents and the challenger on {len(ids)}, not the "
            f"same ones: evaluate the champion again on this held-out set"
        )
    champion_bits = np.array([theirs[i][0] for i in ids], dtype=np.float64)
    return np.array(challenger["bits"], dtype=np.float64), champion_bits, np.array(sizes, dtype=np.float64)


def _better(row: Mapping[str, float], policy: GatePolicy) -> Check:
    holds = row["probability"] >= policy.confidence
    by = f" by {policy.margin:g}" if policy.margin else ""
    says = (
        f"{row['challenger']:.4f} bits per byte against the champion's {row['champion']:.4f} "
        f"({row['difference']:+.4f}, interval {row['low']:+.4f} to {row['high']:+.4f}): better{by} in "
        f"{row['probability']:.1%} of resamples, {policy.confidence:.1%} wanted"
    )
    return Check("better than the champion", holds, row["probability"], f">= {policy.confidence:g}", says)


def _too_few(found: int, wanted: int) -> Check:
    says = f"{found} held-out documents are too few to compare on: hold out {wanted} or more"
    return Check("enough documents", False, found, f">= {wanted}", says)


def _no_worse(comparison: Mapping[str, Any], policy: GatePolicy) -> list[Check]:
    checks = []
    for name, row in comparison.items():
        if name == "all" or not row["judged"]:
            continue
        holds = row["difference"] <= policy.slice_tolerance
        says = (
            f"{name}: {row['challenger']:.4f} against {row['champion']:.4f} ({row['difference']:+.4f}, "
            f"{policy.slice_tolerance:g} allowed)"
        )
        checks.append(
            Check(f"no worse in {name}", holds, row["difference"], f"<= {policy.slice_tolerance:g}", says)
        )
    return checks
