import math
from collections import Counter
from datetime import UTC, datetime

import pytest

from jobs.agreement_matrix import MAX_CLASSES, OTHERS, agreement_matrix
from jobs.comparison import Statistics, parse
from jobs.comparison_charts import interval_plot, latencies
from jobs.comparison_page import comparison_page
from jobs.comparison_table import print_comparison
from jobs.comparison_words import headlines, state
from jobs.number_words import enumerated, milliseconds, percent, points
from models.errors import ServiceError
from models.intervals import Z_95, wilson
from models.policy import Guard
from models.variant_statistics import VariantStatistics, bucket
from models.verdict import Stratum, judge
from tests import comparisons
from tests.comparisons import JSON


def told(made: JSON) -> tuple[str, str, str]:
    """Colour, word and sentence of the only headline."""
    [(found, sentence)] = headlines(parse(made))
    return found.colour, found.word, sentence


@pytest.mark.parametrize(
    ("name", "colour", "word", "sentence"),
    [
        (
            "hold",
            "yellow",
            "Undecided",
            "Version 2 answers 5 % of the traffic, as fast as the champion and with no more errors; 3,200 more requests"
            " are needed for a verdict on accuracy, fewer on agreement.",
        ),
        (
            "passed",
            "green",
            "Passed",
            "Version 2 answers 10 % of the traffic, faster than the champion (p99 4.95 ms against 9.9 ms) and with no"
            " more errors; it has passed every guard.",
        ),
        (
            "failing",
            "red",
            "Fails a guard",
            "Version 2 answers 5 % of the traffic, slower than the champion (p99 29.7 ms against 9.9 ms) and with too"
            " many errors (12 % against 0.1 %); it fails: error_rate: at least 5 points worse, 2 are accepted.",
        ),
        (
            "stopped",
            "red",
            "Stopped",
            "Version 2 was stopped: error_rate: at least 5 points worse, 2 are accepted. The champion answers in its"
            " place.",
        ),
        (
            "shadow",
            "yellow",
            "Undecided",
            "Version 2 watches 20 % of the traffic without answering, agrees with the champion on 97.5 % of 400"
            " requests, is slower than the champion (p99 29.7 ms against 9.9 ms) and fails no more often so far; 120"
            " more requests are needed for a verdict on agreement.",
        ),
        (
            "no traffic",
            "grey",
            "No traffic yet",
            "Version 2 is to answer 5 % of the traffic; no request has reached it yet.",
        ),
        (
            "alone",
            "grey",
            "Champion alone",
            "Version 1 answers all of the traffic; no other version challenges it.",
        ),
    ],
    ids=lambda value: value if value in comparisons.STATES else "",
)
def test_every_state_has_its_sentence(name: str, colour: str, word: str, sentence: str) -> None:
    assert told(comparisons.STATES[name]()) == (colour, word, sentence)


def changed(made: JSON, **fields: object) -> JSON:
    made["variants"][1] |= fields
    return made


@pytest.mark.parametrize("answers", [0, 10, 2000])
def test_what_the_referee_says_is_read_and_shown_though_nobody_sends_the_truth(answers: int) -> None:
    seen = VariantStatistics(answers, Counter(), Counter({bucket(10.0): answers}))
    verdict = judge([Stratum(seen, seen)], Guard())
    assert "no data" in {each.decision for each in verdict.checks}
    comparison = parse(changed(comparisons.hold(), verdict=verdict.model_dump(mode="json")))
    assert headlines(comparison)
    assert "Nothing to judge by" in comparison_page(comparison, datetime.now(UTC))
    print_comparison(comparison)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        pytest.param(
            comparisons.rollout(comparisons.champion(0)),
            "Version 1 answers all of the traffic; no other version challenges it. No request has come yet.",
            id="nobody asks",
        ),
        pytest.param(
            changed(comparisons.no_traffic(), share=0.0), "Version 2 is loaded, but receives no traffic.", id="share 0"
        ),
        pytest.param(
            changed(comparisons.no_traffic(), variant="shadow"),
            "Version 2 is to watch 5 % of the traffic without answering; no copy has reached it yet.",
            id="idle shadow",
        ),
        pytest.param(
            changed(comparisons.shadow(), stopped_because="too slow."),
            "Version 2 was stopped: too slow. It receives no more copies.",
            id="stopped shadow",
        ),
        pytest.param(
            changed(comparisons.hold(), verdict=None, statistics=comparisons.statistics(20)),
            "Version 2 answers 5 % of the traffic, with no more errors so far; no guard judges it.",
            id="no verdict, too few answers to speak of speed",
        ),
        pytest.param(
            changed(comparisons.hold(), verdict={"decision": "hold", "checks": [{"name": "accuracy"}]}),
            "Version 2 answers 5 % of the traffic, as fast as the champion and with no more errors so far; there is no"
            " verdict on accuracy yet.",
            id="nothing counted",
        ),
    ],
)
def test_words_at_the_edges(made: JSON, sentence: str) -> None:
    assert told(made)[2] == sentence


def test_an_open_breaker_is_said() -> None:
    colour, word, sentence = told(changed(comparisons.passed(), breaker="open"))
    assert (colour, word) == ("yellow", "Paused")
    assert sentence.endswith("It is paused after failures in a row; the champion answers in its place.")


def test_each_challenger_has_a_sentence() -> None:
    made = comparisons.hold()
    made["variants"].append({**comparisons.shadow()["variants"][1], "version": 3})
    assert [sentence[:17] for _, sentence in headlines(parse(made))] == ["Version 2 answers", "Version 3 watches"]


def test_unknown_fields_are_ignored_and_missing_ones_tolerated() -> None:
    found = parse({"model": "m", "champion": 3, "new": 1, "variants": [{"version": 3, "variant": "champion", "x": 2}]})
    assert found.champions.requests == 0
    assert state(found.variants[0]).word == "Champion"
    assert found.history == ()


@pytest.mark.parametrize(
    ("body", "message"),
    [({"model": "m"}, "champion: Field required"), ([], "the document: "), (None, "the document: ")],
    ids=["field", "list", "nothing"],
)
def test_another_answer_is_refused_with_the_field(body: object, message: str) -> None:
    with pytest.raises(ServiceError, match=message):
        parse(body)


@pytest.mark.parametrize(("successes", "trials"), [(48, 50), (1, 2), (3, 1000)])
def test_wilson_ends_where_the_share_is_just_not_surprising(successes: int, trials: int) -> None:
    for end in wilson(successes, trials):
        assert abs(successes / trials - end) == pytest.approx(Z_95 * math.sqrt(end * (1 - end) / trials))


def test_wilson_stays_within_0_and_1() -> None:
    assert wilson(0, 10) == pytest.approx((0, Z_95**2 / (10 + Z_95**2)))
    assert wilson(10, 10) == pytest.approx((10 / (10 + Z_95**2), 1))


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (0.05, "5 %"),
        (0.975, "97.5 %"),
        (1, "100 %"),
        (0.9999, "> 99.9 %"),
        (0.00123, "0.12 %"),
        (1e-6, "< 0.01 %"),
    ],
)
def test_percent_never_rounds_to_all_or_nothing(share: float, text: str) -> None:
    assert percent(share) == text


def test_numbers_in_words() -> None:
    assert [points(value) for value in (0.012, -0.3, 0, 0.00001)] == ["+1.2", "−30", "0", "0"]
    assert [milliseconds(value) for value in (4.123, 1250, None)] == ["4.12 ms", "1.25 s", ""]
    assert [enumerated(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_the_matrix_sums_and_orders_naturally() -> None:
    matrix = agreement_matrix(Statistics(pairs=(("10", "9", 4), ("9", "9", 7), ("10", "9", 1))))
    assert matrix is not None
    assert matrix.classes == ("9", "10")
    assert (matrix.count("10", "9"), matrix.count("9", "9"), matrix.count("10", "10")) == (5, 7, 0)


def test_a_matrix_of_disagreements_only_knows_no_diagonal() -> None:
    matrix = agreement_matrix(Statistics(pairs=(("3", "8", 4),)))
    assert matrix is not None
    assert matrix.count("3", "3") is None
    assert agreement_matrix(Statistics()) is None


def test_many_classes_become_others() -> None:
    same = tuple((f"c{n}", f"c{n}", 5) for n in range(50))
    matrix = agreement_matrix(Statistics(pairs=(*same, ("c40", "c41", 3))))
    assert matrix is not None
    assert len(matrix.classes) == MAX_CLASSES + 1
    assert matrix.classes[-1] == OTHERS
    assert matrix.count("c40", "c41") == 3
    assert sum(matrix.counts.values()) == 253


def test_the_latency_chart_keeps_order_and_shape() -> None:
    chart = latencies(parse(comparisons.failing()))
    assert chart is not None
    champion, challenger = chart.distributions
    assert champion.p50 is not None
    assert challenger.p50 is not None
    assert champion.p50 < challenger.p50  # three times slower
    assert max(bar.height for bar in champion.bars) == 100
    edges = [bar.left for bar in champion.bars]
    widths = {round(right - left, 2) for left, right in zip(edges, edges[1:], strict=False)}
    assert len({round(width, 1) for width in widths}) == 1, "a hole in a distribution that has none"
    assert latencies(parse(comparisons.no_traffic())) is None


def test_a_bucket_from_zero_and_a_single_one_can_be_drawn() -> None:
    numbers = {"latency": [[0, 0.1, 5]], "requests": 5, "answered": 5, "p50_ms": 0.1, "p99_ms": 0.1}
    made = comparisons.rollout({"version": 1, "variant": "champion", "statistics": numbers})
    chart = latencies(parse(made))
    assert chart is not None
    assert chart.distributions[0].bars


def test_the_interval_plot_keeps_order_and_says_what_it_cuts() -> None:
    verdict = parse(comparisons.hold()).contenders[0].verdict
    assert verdict is not None
    checks = {check.name: check for check in verdict.checks}
    errors, p99, accuracy = (interval_plot(checks[name]) for name in ("error_rate", "p99", "accuracy"))
    assert errors is not None
    assert p99 is not None
    assert accuracy is not None
    assert errors.low < errors.equal < errors.high < errors.limit
    assert errors.loss == errors.equal
    assert p99.low < p99.equal < p99.high < p99.limit  # a ratio: 1 is equal
    assert (accuracy.cut_low, accuracy.cut_high) == (True, True)
    assert (errors.cut_low, errors.cut_high) == (False, False)


def test_an_estimate_far_off_is_still_inside() -> None:
    verdict = parse(comparisons.failing()).contenders[0].verdict
    assert verdict is not None
    plot = interval_plot(verdict.checks[0])
    assert plot is not None
    assert plot.loss is not None
    assert plot.limit < plot.low < plot.loss < 100
