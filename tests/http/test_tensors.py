from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.http.answers import assert_error


def ask(client: TestClient, model: str, body: Any) -> Any:
    return client.post(f"/v1/models/{model}:predict", json=body)


@pytest.mark.parametrize(
    ("model", "instances", "predictions"),
    [
        pytest.param("affine", [[1, 2, 3]], [[3, 5, 7]], id="one input"),
        pytest.param("affine", [{"x": [1, 2, 3]}, {"x": [0, 0, 0]}], [[3, 5, 7], [1, 1, 1]], id="named"),
        pytest.param("lookup", [3, 0], [[6, 7], [0, 1]], id="scalars"),
        pytest.param(
            "pair", [{"a": [1, 2], "b": [3, 4]}], [{"total": [4, 6], "double": [2, 4]}], id="several inputs and outputs"
        ),
    ],
)
def test_rows_are_answered(client: TestClient, model: str, instances: Any, predictions: Any) -> None:
    response = ask(client, model, {"instances": instances})
    assert response.status_code == 200
    assert response.json() == {"predictions": predictions}


def test_a_version_and_a_signature_can_be_named(client: TestClient) -> None:
    body = {"signature_name": "serving_default", "instances": [[1, 2, 3]]}
    assert client.post("/v1/models/affine/versions/1:predict", json=body).json() == {"predictions": [[3, 5, 7]]}
    assert_error(client.post("/v1/models/affine/versions/4:predict", json=body), 404, "version_not_found")


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        pytest.param(b"", "empty_body", "", id="empty"),
        pytest.param(b'{"instances": [[NaN, 1, 2]]}', "invalid_json", "not JSON", id="nan"),
        pytest.param(b'{"instances": [[Infinity, 1, 2]]}', "invalid_json", "not JSON", id="infinity"),
        pytest.param(b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json", "", id="very deep"),
        pytest.param(b'{"instances": ' + b"[" * 40 + b"1" + b"]" * 40 + b"}", "invalid_tensor", "deep", id="deep"),
        pytest.param(b'{"instances": [[1, 2, 3], [1]]}', "invalid_tensor", "'x': rows have different", id="ragged"),
        pytest.param(
            b'{"instances": [[1, 2]]}',
            "invalid_tensor",
            "'x': expected float32 [3] per instance, got shape [2]",
            id="shape",
        ),
        pytest.param(
            b'{"instances": [["a", "b", "c"]]}',
            "invalid_tensor",
            "'x': expected float32 values, got strings",
            id="dtype",
        ),
        pytest.param(b'{"inputs": [[1, 2, 3]]}', "invalid_json", "unknown field 'inputs'", id="columnar"),
        pytest.param(b'{"signature_name": "x", "instances": []}', "invalid_json", "signature_name", id="signature"),
        pytest.param(b"{}", "invalid_json", "'instances' is missing", id="no instances"),
    ],
)
def test_bad_tensors_are_refused(client: TestClient, body: bytes, code: str, message: str) -> None:
    assert_error(client.post("/v1/models/affine:predict", content=body), 400, code, message)


def test_unknown_model(client: TestClient) -> None:
    assert_error(ask(client, "cats", {"instances": [1]}), 404, "model_not_found")


def test_a_model_that_fails_says_no_more_than_that(client: TestClient) -> None:
    assert_error(ask(client, "lookup", {"instances": [99]}), 500, "model_failed")


def test_too_many_instances_are_refused(client: TestClient) -> None:
    assert_error(ask(client, "lookup", {"instances": [0] * 101}), 413, "payload_too_large", "at most 100")
