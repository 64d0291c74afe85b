"""What the gateway answers on GET /models/digits/rollout, in each state a rollout can be in."""

import copy
import math
from typing import Any

from models.variant_statistics import GROWTH, bucket, middle_ms

JSON = dict[str, Any]
HOSTILE = "<script>alert(1)</script>[red]&\"'\x1b[31m"


def latency(median_ms: float, answers: int, spread: float = 0.3) -> list[list[float]]:
    """Buckets of a lognormal distribution."""
    rows = []
    for index in range(1, bucket(median_ms * 30)):
        middle = middle_ms(index)
        density = math.exp(-0.5 * (math.log(middle / median_ms) / spread) ** 2) / (spread * math.sqrt(2 * math.pi))
        count = round(answers * density * math.log(GROWTH))
        if count:
            rows.append([middle / math.sqrt(GROWTH), middle * math.sqrt(GROWTH), count])
    return rows


def statistics(requests: int, failed: int = 0, slower: float = 1.0, **more: Any) -> JSON:
    answered = requests - failed
    return {
        "requests": requests,
        "answered": answered,
        "failed": failed,
        "failures": {"model_failed": failed} if failed else {},
        "p50_ms": 4.1 * slower if answered else None,
        "p90_ms": 6.0 * slower if answered else None,
        "p99_ms": 9.9 * slower if answered else None,
        "latency": latency(4.1 * slower, answered),
        "confidence": 0.93 if answered else None,
        "classes": {str(digit): answered // 10 for digit in range(10)} if answered else {},
        "compared": 0,
        "agreed": 0,
        "mean_difference": None,
        "max_difference": None,
        "pairs": [],
        "dropped": 0,
        "labelled": 0,
        "correct": 0,
        **more,
    }


def check(name: str, decision: str, loss: float, low: float, high: float, limit: float, **more: Any) -> JSON:
    numbers = {"loss": loss, "low": low, "high": high, "limit": limit}
    return {"name": name, "decision": decision, **numbers, "champion": None, "challenger": None, "needed": None, **more}


def champion(requests: int = 19_000, share: float = 0.95) -> JSON:
    labels = {"labelled": 50, "correct": 48} if requests else {}
    return {
        "version": 1,
        "variant": "champion",
        "declared": 0.9,
        "share": share,
        "stopped_because": None,
        "breaker": "closed",
        "statistics": statistics(requests, failed=19 if requests else 0, **labels),
        "verdict": None,
    }


def contender(numbers: JSON, verdict: JSON | None, **more: Any) -> JSON:
    return {
        "version": 2,
        "variant": "challenger",
        "declared": 0.1,
        "share": 0.05,
        "stopped_because": None,
        "breaker": "closed",
        "statistics": numbers,
        "disagreements": [],
        "verdict": verdict,
        **more,
    }


def event(action: str, by: str, share: float | None, because: str, minute: int) -> JSON:
    time = f"2026-11-21T18:{minute:02}:00Z"
    return {
        "time": time,
        "version": 2,
        "action": action,
        "by": by,
        "share": share,
        "because": because,
        "evidence": {"requests": 412},
    }


def rollout(*variants: JSON, history: tuple[JSON, ...] = ()) -> JSON:
    made = {
        "model": "digits",
        "champion": 1,
        "routers": 1,
        "since": "2026-11-21T18:00:00Z",
        "variants": list(variants),
        "history": list(history),
    }
    return copy.deepcopy(made)


COMPARED: JSON = {
    "compared": 400,
    "agreed": 390,
    "mean_difference": 0.01,
    "max_difference": 0.5,
    "pairs": [[str(digit), str(digit), 36 + digit] for digit in range(10) if digit != 9]
    + [["9", "9", 30], ["3", "8", 4], ["8", "3", 2], ["4", "9", 2], ["1", "7", 2]],
}
BEGUN = event("challenge", "operator", 0.1, "the convolutional network of this week", 2)
RAMPED = event("ramp", "referee", 0.05, "no guard objects after 412 requests at 1 %", 9)
DISAGREEMENTS = [
    {"request_id": "5ef8dccc-0f25-4e72-9075-a8b7a2bcac15", "champion": "3", "version": "8"},
    {"request_id": "0b6a3f0e-60a2-4a2c-a7ce-8f3c1f0d9a11", "champion": "4", "version": "9"},
]


def hold() -> JSON:
    """Errors are proven, accuracy is not."""
    checks = [
        check("error_rate", "pass", 0.0, -0.004, 0.006, 0.02, champion=0.001, challenger=0.001),
        check("p99", "pass", 1.02, 0.91, 1.3, 3.0),
        check("disagreement", "hold", 0.025, 0.011, 0.31, 0.3, needed=120),
        check("confidence", "pass", 0.01, -0.02, 0.04, 0.2),
        check("accuracy", "hold", -0.01, -0.09, 0.12, 0.02, needed=3200),
    ]
    numbers = statistics(1000, failed=1, labelled=40, correct=39, **COMPARED)
    verdict = {"decision": "hold", "because": "accuracy is not known well enough", "checks": checks}
    return rollout(champion(), contender(numbers, verdict, disagreements=DISAGREEMENTS), history=(BEGUN, RAMPED))


def passed() -> JSON:
    checks = [check("error_rate", "pass", 0.0, -0.004, 0.006, 0.02), check("p99", "pass", 1.0, 0.9, 1.2, 3.0)]
    verdict = {"decision": "pass", "because": "every guard has seen enough", "checks": checks}
    return rollout(champion(), contender(statistics(1000, slower=0.5, **COMPARED), verdict, share=0.1))


def failing() -> JSON:
    checks = [
        check("error_rate", "rollback", 0.12, 0.05, 0.2, 0.02, champion=0.001, challenger=0.121),
        check("p99", "hold", 2.8, 1.1, 40.0, 3.0, needed=80),
        check("accuracy", "hold", 0.1, -1.0, 1.0, 0.02),
    ]
    because = "error_rate: at least 5 points worse, 2 are accepted"
    verdict = {"decision": "rollback", "because": because, "checks": checks}
    return rollout(champion(), contender(statistics(200, failed=24, slower=3.0), verdict))


def stopped() -> JSON:
    made = failing()
    because = made["variants"][1]["verdict"]["because"]
    made["variants"][1] |= {"stopped_because": because, "share": 0.0}
    made["history"] = [BEGUN, RAMPED, event("rollback", "referee", 0.0, because, 12)]
    return made


def shadow() -> JSON:
    checks = [check("disagreement", "hold", 0.025, 0.011, 0.31, 0.3, needed=120)]
    verdict = {"decision": "hold", "because": "", "checks": checks}
    numbers = statistics(400, slower=3.0, dropped=17, **COMPARED)
    return rollout(champion(share=1.0), contender(numbers, verdict, variant="shadow", share=0.2, declared=0.2))


def no_traffic() -> JSON:
    return rollout(champion(0), contender(statistics(0), None))


def alone() -> JSON:
    return rollout(champion(share=1.0))


def hostile() -> JSON:
    """Every text that comes from outside is an attack."""
    made = hold()
    report = made["variants"][1]
    report["statistics"]["pairs"] = [[HOSTILE, "8", 4], [HOSTILE, HOSTILE, 9]]
    report["statistics"]["failures"] = {HOSTILE: 1}
    report["disagreements"] = [{"request_id": HOSTILE, "champion": HOSTILE, "version": HOSTILE}]
    report["verdict"]["because"] = HOSTILE
    report["verdict"]["checks"][0]["name"] = HOSTILE
    report["breaker"] = HOSTILE
    made["model"] = HOSTILE
    made["history"][0] |= {"because": HOSTILE, "by": HOSTILE, "action": HOSTILE}
    return made


STATES = {
    "hold": hold,
    "passed": passed,
    "failing": failing,
    "stopped": stopped,
    "shadow": shadow,
    "no traffic": no_traffic,
    "alone": alone,
    "hostile": hostile,
}
