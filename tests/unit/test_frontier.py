import pytest

from jobs.frontier import Measured, Setting, choose, contenders, frontier, portion
from models.errors import InvalidRequest


def measured(replicas: int, threads: int, batch: int, rows_per_s: float, p99_ms: float) -> Measured:
    return Measured(Setting(replicas, threads, batch), rows_per_s, p99_ms / 2, p99_ms, 100)


def settings(results: list[Measured]) -> list[tuple[int, int, int]]:
    return [(m.setting.replicas, m.setting.threads, m.setting.batch) for m in results]


MACHINE = [
    measured(1, 1, 1, 100, 10),
    measured(1, 2, 1, 150, 7),
    measured(1, 2, 4, 170, 24),
    measured(2, 1, 1, 190, 11),
    measured(2, 1, 4, 200, 42),
    measured(2, 1, 8, 199, 90),
]


def test_the_frontier_is_what_no_other_beats() -> None:
    assert settings(frontier(MACHINE)) == [(1, 2, 1), (2, 1, 1), (2, 1, 4)]


def test_equals_stand_on_the_frontier_once() -> None:
    assert settings(frontier([measured(2, 1, 1, 100, 5), measured(1, 1, 1, 100, 5)])) == [(1, 1, 1)]


@pytest.mark.parametrize(
    ("results", "target", "expected"),
    [
        pytest.param(MACHINE, None, (2, 1, 1), id="5 % of throughput given for a quarter of p99"),
        pytest.param(MACHINE, 200, (2, 1, 1), id="a wide target changes nothing"),
        pytest.param(MACHINE, 10, (1, 2, 1), id="the target leaves one"),
        pytest.param(
            [measured(2, 1, 2, 100, 10), measured(1, 2, 4, 98, 11)], None, (1, 2, 4), id="fewer replicas if alike"
        ),
        pytest.param([measured(1, 1, 8, 100, 10), measured(1, 1, 4, 96, 9)], None, (1, 1, 4), id="smaller batch"),
        pytest.param([measured(1, 4, 8, 100, 10), measured(1, 2, 8, 96, 10)], None, (1, 2, 8), id="fewer threads"),
        pytest.param([measured(1, 1, 8, 100, 10), measured(1, 1, 4, 94, 5)], None, (1, 1, 8), id="6 % is too much"),
        pytest.param(
            [measured(2, 1, 8, 100, 10), measured(1, 2, 8, 99, 13)], None, (2, 1, 8), id="a p99 30 % higher too"
        ),
    ],
)
def test_the_rule(results: list[Measured], target: float | None, expected: tuple[int, int, int]) -> None:
    assert settings([choose(results, target).measured]) == [expected]


def test_the_reason_names_what_was_passed_over() -> None:
    assert choose(MACHINE).because.startswith(
        "95% of the highest throughput (2 replicas x 1 thread, batches of 4: 200 rows/s, p99 42 ms)"
    )
    assert choose(MACHINE[:1]).because.startswith("the highest throughput")


def test_a_target_that_nothing_meets_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"within 5 ms .* the lowest is 7 ms, with 1 replica x 2 threads, batches"):
        choose(MACHINE, 5)


def test_only_the_clearly_beaten_are_measured_no_more() -> None:
    assert (1, 1, 1) not in settings(contenders(MACHINE))
    assert (2, 1, 8) in settings(contenders(MACHINE)), "half a percent less throughput may be chance"


def test_a_disturbed_p99_drops_nothing() -> None:
    small, large = Measured(Setting(1, 1, 1), 100, 5, 900, 0), Measured(Setting(1, 1, 8), 200, 20, 25, 0)
    assert contenders([small, large]) == [small, large]


@pytest.mark.parametrize(
    ("p50_ms", "expected"),
    [
        pytest.param({1: 7.2, 2: 13.6, 4: 29.0}, 1, id="few stay in the cache"),
        pytest.param({1: 7.2, 2: 12.9, 4: 28.8}, 2, id="the fewest a row"),
        pytest.param({1: 7.2, 2: 14.0, 4: 25.6}, None, id="many are faster"),
        pytest.param({1: 7.2, 2: 13.6, 4: 25.5}, None, id="not by enough"),
    ],
)
def test_batches_are_computed_in_portions_where_that_is_faster(p50_ms: dict[int, float], expected: int | None) -> None:
    results = [Measured(Setting(2, 1, rows), 100, ms, 2 * ms, 100) for rows, ms in p50_ms.items()]
    others = [Measured(Setting(1, 2, 1), 100, 1.1, 2, 100)]
    assert portion(results + others, results[-1], call_ms=1.0) == expected
