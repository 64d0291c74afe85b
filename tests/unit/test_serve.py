from pathlib import Path

import pytest

from jobs import serve
from jobs.serve import FAST_INGRESS, MOST_STARTING, fast_ingress, unpublished
from jobs.serve_config import ServeConfig
from jobs.service import Service
from models.store import Store
from tests.tiny import affine, floats, put

SHIPPED = Path(__file__).parents[2] / "serve_config.yaml"


def test_versions_that_are_not_in_the_store_are_found(store: Store, tmp_path: Path) -> None:
    config = ServeConfig.read(SHIPPED)
    for application in config.data["applications"][1:]:
        application["args"]["store"] = str(store.root)
    path = tmp_path / "serve_config.yaml"
    path.write_text(config.text)
    assert unpublished(path) == [("digits", 1, store.root), ("digits", 2, store.root)]
    put(store, "digits", affine(tmp_path / "m.onnx"), {"x": floats([[1, 2, 3]])})
    assert unpublished(path) == [("digits", 2, store.root)]


def test_what_a_person_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    assert fast_ingress()["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert fast_ingress()["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == FAST_INGRESS["RAY_SERVE_THROUGHPUT_OPTIMIZED"]


@pytest.mark.parametrize(("cores", "starting"), [(1, "1"), (2, "1"), (3, "1"), (64, "32")])
def test_half_of_the_cores_may_be_busy_with_starting(
    cores: int, starting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MOST_STARTING, raising=False)
    monkeypatch.setattr(serve, "cores", lambda: cores)
    assert fast_ingress()[MOST_STARTING] == starting


def test_who_failed_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"status": "DEPLOY_FAILED", "message": "Traceback\n  line\nValueError: no such threads", "deployments": {}}
    details = {"applications": {"gateway": {"status": "RUNNING", "message": ""}, "digits-v2": failed}}
    monkeypatch.setattr(Service, "details", lambda _: details)
    assert object.__new__(Service).failures() == {"digits-v2": "ValueError: no such threads"}
