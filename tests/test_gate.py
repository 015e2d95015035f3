"""The gate as a specification: which numbers lead to which decision, and with which words."""

from typing import Any

import numpy as np
import pytest

from tasks.evals.config import BootstrapConfig, GatePolicy
from tasks.evals.gate import Verdict, judge
from tasks.evals.held_out import EvaluationError

BOOTSTRAP = BootstrapConfig(resamples=400)
SIZES = np.random.default_rng(0).integers(200, 4000, size=60)
NOISE = np.random.default_rng(1).normal(0, 0.3, size=60)
LANGUAGES = ["zh" if i % 3 == 0 else "en" for i in range(60)]


def documents(bits_per_byte: float, zh: float | None = None) -> dict[str, list[Any]]:
    """Bits of 60 documents at about so many bits per byte, Chinese ones perhaps at another figure."""
    base = np.where(np.array(LANGUAGES) == "zh", bits_per_byte if zh is None else zh, bits_per_byte)
    return {
        "doc_id": [f"{i:064x}" for i in range(60)],
        "language": LANGUAGES,
        "domain": [f"{i % 2}.example" for i in range(60)],
        "length": ["1 to 4 kB"] * 60,
        "bytes": SIZES.tolist(),
        "bits": ((base + NOISE) * SIZES).tolist(),
    }


def report(bits: float = 2.0, **measures: Any) -> dict[str, Any]:
    rows = {"model": bits, "unigram": 3.5, "bigram": 2.4, "trigram": 1.9}
    return {"bits_per_byte": {name: {"all": value} for name, value in rows.items()}, **measures}


def memorization(training: float, repeated: int) -> dict[str, Any]:
    return {
        "training": {"share": training},
        "held_out": {"share": 0.01},
        "repeated": {"extracted": repeated, "windows": 50, "share": repeated / 50},
    }


def decide(
    challenger: dict[str, list[Any]],
    champion: dict[str, list[Any]] | None,
    *,
    measured: dict[str, Any] | None = None,
    **policy: Any,
) -> Verdict:
    return judge(measured or report(), challenger, champion, GatePolicy(**policy), BOOTSTRAP)


def test_the_first_sound_model_is_promoted() -> None:
    verdict = decide(documents(2.0), None)
    assert verdict.decision == "promoted"
    assert "2.0000 bits per byte beats the Kneser-Ney bigram's 2.4000" in verdict.reasons


@pytest.mark.parametrize("bits", [2.4, 7.0, float("nan"), float("inf")])
def test_who_does_not_beat_the_bigram_is_refused(bits: float) -> None:
    verdict = decide(documents(2.0), None, measured=report(bits))
    assert verdict.decision == "refused"
    assert "does not beat the Kneser-Ney bigram's 2.4000" in verdict.reasons[0]


def test_the_baseline_is_a_choice() -> None:
    assert decide(documents(2.0), None, baseline="trigram").decision == "refused"
    assert decide(documents(9.0), None, measured=report(9.0), baseline="none").decision == "promoted"


def test_better_is_promoted_with_the_numbers() -> None:
    verdict = decide(documents(1.98), documents(2.0))
    assert verdict.decision == "promoted"
    assert "1.9792 bits per byte against the champion's 1.9992" in verdict.reasons[0]
    assert "-0.0200" in verdict.reasons[0]
    assert verdict.comparison["all"]["probability"] == 1.0


@pytest.mark.parametrize("bits", [2.0, 2.02, 3.0])
def test_equal_and_worse_stay_candidates(bits: float) -> None:
    verdict = decide(documents(bits), documents(2.0))
    assert verdict.decision == "candidate"
    assert "better in 0.0% of resamples, 95.0% wanted" in verdict.reasons[0]


def test_a_margin_has_to_be_reached() -> None:
    assert decide(documents(1.98), documents(2.0), margin=0.01).decision == "promoted"
    assert decide(documents(1.98), documents(2.0), margin=0.03).decision == "candidate"


def test_a_language_must_not_pay_for_the_whole() -> None:
    better_in_english = documents(1.8, zh=2.1)
    verdict = decide(better_in_english, documents(2.0))
    assert verdict.comparison["all"]["difference"] < 0
    assert verdict.decision == "candidate"
    assert verdict.reasons == [next(c.says for c in verdict.checks if c.rule == "no worse in language zh")]
    assert decide(better_in_english, documents(2.0), slices=[]).decision == "promoted"
    assert decide(better_in_english, documents(2.0), slice_tolerance=0.2).decision == "promoted"
    assert decide(better_in_english, documents(2.0), slice_documents=30).decision == "promoted", "zh has 20"


def test_a_few_lucky_documents_do_not_make_a_champion() -> None:
    challenger, champion = documents(2.0), documents(2.0)
    for i in range(3):
        challenger["bits"][i] *= 0.9
        challenger["bits"][i + 3] *= 1.08
    assert decide(challenger, champion).decision == "candidate"


def test_too_few_documents_prove_nothing() -> None:
    challenger, champion = (
        {name: values[:3] for name, values in documents(bits).items()} for bits in (1.5, 2.0)
    )
    verdict = decide(challenger, champion)
    assert verdict.decision == "candidate"
    assert "3 held-out documents are too few" in verdict.reasons[0]


def test_what_leaks_is_refused_however_good_it_is() -> None:
    even = decide(documents(1.0), documents(2.0), measured=report(memorization=memorization(0.20, 0)))
    assert even.decision == "refused"
    assert "19.0% of evenly drawn training windows" in even.reasons[0]
    canary = decide(documents(1.0), documents(2.0), measured=report(memorization=memorization(0.02, 1)))
    assert canary.decision == "refused"
    assert "1 of 50 passages that training text repeats" in canary.reasons[0]
    personal = {"personal_data": {"found": 2, "from_training": 1}}
    assert decide(documents(1.0), None, measured=report(samples=personal)).decision == "refused"
    assert (
        decide(documents(1.0), None, measured=report(samples=personal), max_sample_pii=1).decision
        == "promoted"
    )


def test_minimal_pairs_can_be_a_condition() -> None:
    measured = report(minimal_pairs={"accuracy": 0.55})
    assert decide(documents(1.0), None, measured=measured).decision == "promoted"
    assert decide(documents(1.0), None, measured=measured, minimal_pairs=0.6).decision == "refused"


def test_all_reasons_are_given_at_once() -> None:
    measured = report(9.0, memorization=memorization(0.5, 3), minimal_pairs={"accuracy": 0.4})
    assert len(decide(documents(9.0), None, measured=measured, minimal_pairs=0.5).reasons) == 4


def test_only_the_same_documents_compare() -> None:
    other = documents(2.0)
    other["doc_id"][0] = "another"
    with pytest.raises(EvaluationError, match="not the same ones"):
        decide(documents(1.0), other)


def test_the_order_of_documents_does_not_matter() -> None:
    champion = documents(2.0)
    shuffled = {name: values[::-1] for name, values in champion.items()}
    challenger = documents(1.99)
    assert decide(challenger, shuffled).comparison == decide(challenger, champion).comparison


def test_a_slice_too_small_to_be_judged_is_compared_all_the_same() -> None:
    verdict = decide(documents(1.9, zh=2.3), documents(2.0), slices=["language"], slice_documents=30)
    assert verdict.comparison["language zh"]["difference"] > 0.2
    assert [row["judged"] for row in verdict.comparison.values()] == [True, True, False]
    assert "no worse in language zh" not in {check.rule for check in verdict.checks}
