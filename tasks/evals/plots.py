"""Pictures of an evaluation, as PNG files: bits per byte by slice, against the champion's, and the curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, ACCENT, GREY = "#333333", "#1f6fb2", "#9a9a9a"
MOST_BARS = 24


def plot_slices(report: Mapping[str, Any], path: Path) -> None:
    """The model's figure by slice with its interval, the n-gram models' over all text as lines."""
    bits = report["bits_per_byte"]
    rows = bits["model"]["slices"][:MOST_BARS]
    names = ["all", *(row["name"] for row in rows)]
    values = [bits["model"]["all"], *(row["bits_per_byte"] for row in rows)]
    low, high = zip(bits["model"]["interval"], *((row["low"], row["high"]) for row in rows), strict=True)
    figure = _figure(0.32 * len(names) + 1.4)
    axes = figure.subplots()
    places = list(range(len(names)))[::-1]
    errors = [
        [0 if a is None else max(v - a, 0) for v, a in zip(values, low, strict=True)],
        [0 if b is None else max(b - v, 0) for v, b in zip(values, high, strict=True)],
    ]
    axes.errorbar(values, places, xerr=errors, fmt="o", color=ACCENT, ecolor=ACCENT, capsize=3)
    for name, row in bits.items():
        if name != "model":
            axes.axvline(row["all"], color=GREY, linewidth=1)
            axes.annotate(
                name,
                (row["all"], len(names) - 0.4),
                rotation=90,
                fontsize=7,
                color=INK,
                va="bottom",
                annotation_clip=False,
            )
    axes.set_yticks(places, [_plain(name) for name in names])
    axes.set_xlabel("bits per byte on held-out text (lower is better)")
    _save(figure, path)


def plot_comparison(comparison: Mapping[str, Mapping[str, float]], champion: str, path: Path) -> None:
    """This model's figure beside the champion's, over all text and in each slice that was compared.

    ``comparison`` is a verdict's: by slice, ``challenger`` and ``champion`` in bits per byte. ``champion``
    is its version, for the legend.
    """
    rows = list(comparison.items())[:MOST_BARS]
    figure = _figure(0.32 * len(rows) + 1.6)
    axes = figure.subplots()
    places = list(range(len(rows)))[::-1]
    ours, theirs = ([row[side] for _, row in rows] for side in ("challenger", "champion"))
    axes.hlines(places, ours, theirs, color=GREY, linewidth=1)
    axes.plot(theirs, places, "o", color=GREY, label=f"champion, version {champion}")
    axes.plot(ours, places, "o", color=ACCENT, label="this version")
    axes.set_yticks(places, [_plain(name) for name, _ in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("bits per byte on held-out text (lower is better)")
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    _save(figure, path)


def plot_curve(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Training loss and, where measured, held-out loss over the tokens trained on."""
    from matplotlib.ticker import EngFormatter

    figure = _figure(3.6)
    axes = figure.subplots()
    axes.plot(
        [r["tokens"] for r in rows], [r["loss"] for r in rows], color=GREY, linewidth=0.8, label="training"
    )
    held_out = [r for r in rows if r.get("heldout_loss") is not None]
    if held_out:
        axes.plot(
            [r["tokens"] for r in held_out],
            [r["heldout_loss"] for r in held_out],
            "o-",
            color=ACCENT,
            markersize=3,
            label="held-out",
        )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("tokens trained on")
    axes.set_ylabel("loss, nats a token")
    axes.legend(frameon=False)
    _save(figure, path)


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.5, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _plain(name: str) -> str:
    """A label in letters that every font has."""
    return name.encode("ascii", "replace").decode()[:40]
