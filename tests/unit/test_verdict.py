import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from models.checks import Check
from models.policy import Guard
from models.variant_statistics import VariantStatistics, bucket
from models.verdict import Stratum, Verdict, judge

OFF: dict[str, Any] = {
    "max_error_rate_loss": None,
    "max_p99_ratio": None,
    "max_disagreement": None,
    "max_confidence_shift": None,
    "max_accuracy_loss": None,
}


def only(**on: float) -> Guard:
    return Guard(**{**OFF, **on})


def traffic(answered: int, failed: int = 0, slow: int = 0, slow_ms: float = 1000.0, **sums: Any) -> VariantStatistics:
    """Answers within 10 ms but for the slow ones."""
    latency = Counter({bucket(10.0): answered - slow, bucket(slow_ms): slow})
    return VariantStatistics(answered, Counter({"model_failed": failed} if failed else {}), latency, **sums)


def verdict(champion: VariantStatistics, challenger: VariantStatistics, guard: Guard) -> Verdict:
    return judge([Stratum(champion, challenger)], guard)


def check(found: Verdict, name: str) -> Check:
    return next(each for each in found.checks if each.name == name)


CHAMPION = traffic(99_800, 200, slow=900)


@pytest.mark.parametrize(
    ("challenger", "decision"),
    [
        pytest.param(traffic(0), "hold", id="no traffic"),
        pytest.param(traffic(20), "hold", id="little traffic"),
        pytest.param(traffic(2000, 4, slow=18), "pass", id="equal"),
        pytest.param(traffic(1000, 52), "rollback", id="fails 5 %"),
        pytest.param(traffic(0, 12), "rollback", id="always fails"),
        pytest.param(traffic(0, 3), "hold", id="failed thrice"),
        pytest.param(traffic(1000, slow=60), "rollback", id="slow"),
        pytest.param(traffic(1000, slow=60, slow_ms=25.0), "pass", id="not three times slower"),
    ],
)
def test_errors_and_latency(challenger: VariantStatistics, decision: str) -> None:
    assert verdict(CHAMPION, challenger, Guard()).decision == decision


def compared(agreed: int, *classes: tuple[str, str]) -> dict[str, Any]:
    """200 requests; which classes they had does not matter, but that there are some."""
    return {"compared": 200, "agreed": agreed, "pairs": Counter(classes)}


SEVEN = ("seven", "seven")


@pytest.mark.parametrize(
    ("guard", "sums", "decision"),
    [
        pytest.param({"max_disagreement": 0.3}, compared(190, SEVEN), "pass", id="agrees"),
        pytest.param({"max_disagreement": 0.3}, compared(90, SEVEN), "rollback", id="disagrees"),
        pytest.param({"max_disagreement": 0.3}, compared(140, SEVEN), "hold", id="on the limit"),
        pytest.param({"max_disagreement": 0.3}, compared(0), "pass", id="values without tolerance"),
        pytest.param({"max_disagreement": 0.3, "tolerance": 0.1}, compared(0), "rollback", id="far values"),
        pytest.param({"max_disagreement": 0.3}, {}, "pass", id="nothing compared"),
        pytest.param({"max_accuracy_loss": 0.02}, {"labelled": 5000, "correct": 4500}, "pass", id="as right"),
        pytest.param({"max_accuracy_loss": 0.02}, {"labelled": 5000, "correct": 4300}, "rollback", id="less right"),
        pytest.param({"max_accuracy_loss": 0.02}, {"labelled": 50, "correct": 43}, "hold", id="little feedback"),
        pytest.param({"max_accuracy_loss": 0.02}, {}, "pass", id="no feedback"),
        pytest.param(
            {"max_confidence_shift": 0.2},
            {"confident": 2000, "confidence": 1700.0, "confidence_squares": 1450.0},
            "pass",
            id="as confident",
        ),
        pytest.param(
            {"max_confidence_shift": 0.2},
            {"confident": 2000, "confidence": 1000.0, "confidence_squares": 520.0},
            "rollback",
            id="less confident",
        ),
    ],
)
def test_quality(guard: dict[str, float], sums: dict[str, Any], decision: str) -> None:
    champion = traffic(100_000, labelled=100_000, correct=90_000, confident=1000, confidence=850.0)
    champion.confidence_squares = 730.0
    assert verdict(champion, traffic(5000, **sums), only(**guard)).decision == decision


def test_a_champion_is_held_to_what_a_challenger_is() -> None:
    """A tenth of all answers takes a second, on both sides; the challenger's are its failures."""
    champion, challenger = traffic(90_000, slow=9_000), traffic(900, 100)
    both = [Stratum(champion, challenger)]
    guard = only(max_error_rate_loss=0.02)
    assert judge(both, guard).decision == "rollback"
    found = check(judge(both, guard, patience_ms=500.0), "error_rate")
    assert found.decision == "hold"
    assert found.champion == pytest.approx(0.1)


def test_more_confident_is_a_shift_too() -> None:
    champion = traffic(1000, confident=1000, confidence=500.0, confidence_squares=260.0)
    challenger = traffic(1000, confident=1000, confidence=900.0, confidence_squares=820.0)
    found = check(verdict(champion, challenger, only(max_confidence_shift=0.2)), "confidence")
    assert found.decision == "rollback"
    assert found.loss == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("both_right", "decision"), [(1760, "rollback"), (0, "hold")], ids=["known together", "least favourable"]
)
def test_feedback_on_the_same_requests_is_compared_one_by_one(both_right: int, decision: str) -> None:
    """2 points worse: 40 requests that only the champion got right show it, unless as many others could hide it."""
    sums = {"both_labelled": 2000, "champion_correct": 1800, "both_correct": 1760, "both_right": both_right}
    found = verdict(traffic(2000), traffic(2000, labelled=2000, correct=1760, **sums), only(max_accuracy_loss=0.02))
    accuracy = check(found, "accuracy")
    assert accuracy.decision == decision
    assert accuracy.loss == pytest.approx(0.02)
    assert (accuracy.champion, accuracy.challenger) == (0.9, 0.88)


def test_a_small_part_of_feedback_in_common_is_not_preferred() -> None:
    champion = traffic(100_000, labelled=100_000, correct=90_000)
    sums = {"both_labelled": 300, "champion_correct": 270, "both_correct": 200, "both_right": 200}
    found = verdict(champion, traffic(5000, labelled=5000, correct=4500, **sums), only(max_accuracy_loss=0.02))
    assert check(found, "accuracy").loss == pytest.approx(0)


def test_each_stratum_has_a_p99_of_its_own() -> None:
    """Latency of both grows tenfold with the share: a challenger that is as slow as its champion passes."""
    calm = Stratum(traffic(990_000), traffic(10_000))
    slow = traffic(5000, slow=5000, slow_ms=100.0)
    assert judge([calm, Stratum(slow, slow)], only(max_p99_ratio=3.0)).decision == "pass"
    pooled = Stratum(calm.champion.add(slow), calm.challenger.add(slow))
    assert judge([pooled], only(max_p99_ratio=3.0)).decision == "rollback"
    worse = Stratum(slow, traffic(5000, slow=5000, slow_ms=500.0))
    assert judge([calm, worse], only(max_p99_ratio=3.0)).decision == "rollback"


def test_a_percentile_of_few_answers_is_no_data() -> None:
    found = verdict(traffic(99), traffic(2000), Guard())
    assert check(found, "p99").decision == "no data"
    assert found.decision == "hold"
    assert "p99" in found.because


def test_half_of_what_is_accepted_is_the_least_that_stops() -> None:
    much = Stratum(traffic(10_000_000), traffic(9_995_000, 5000))
    error = check(judge([much], only(max_error_rate_loss=0.02)), "error_rate")
    assert error.low is not None
    assert error.low > 0
    assert error.decision == "pass"


def test_guards_that_are_off_are_left_out() -> None:
    found = verdict(CHAMPION, traffic(2000), only(max_p99_ratio=3.0))
    assert [each.name for each in found.checks] == ["p99"]
    assert judge([], only()) == Verdict(decision="pass", because="no guard is on", checks=())


def strata_of(challenger: int) -> Sequence[Stratum]:
    return [Stratum(traffic(99 * challenger, slow=challenger), traffic(challenger))]


def test_needed_is_what_it_takes() -> None:
    guard = only(max_error_rate_loss=0.02, max_p99_ratio=3.0)
    found = judge(strata_of(100), guard)
    needed = max(each.needed or 0 for each in found.checks)
    assert found.decision == "hold"
    assert f"{needed:,} more requests" in found.because
    assert judge(strata_of(100 + needed), guard).decision == "pass"
    assert judge(strata_of(100 + needed - 10), guard).decision == "hold"


def test_no_traffic_helps_a_loss_beyond_the_limit() -> None:
    found = verdict(CHAMPION, traffic(48, 2), only(max_error_rate_loss=0.02))
    assert found.decision == "hold"
    assert check(found, "error_rate").needed is None
    assert "no end in sight" in found.because


def test_the_evidence_is_plain_json() -> None:
    found = verdict(CHAMPION, traffic(1000, 52), Guard())
    assert found.because.startswith("the error rate is worse by 4.74 points (at least ")
    back = Verdict.model_validate(json.loads(json.dumps(found.model_dump(mode="json"), allow_nan=False)))
    assert back == found
