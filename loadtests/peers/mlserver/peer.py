"""MLServer: a REST process in front, one inference worker per core."""

import base64
import json
from pathlib import Path
from typing import Any

from loadtests.peers.launch import executable, settings
from loadtests.peers.peer import Command, Peer, Request, Start
from loadtests.server_process import free_port
from loadtests.workloads import Workload


def command(start: Start) -> Command:
    """`mlserver start` on a directory with its two settings files."""
    server = {
        "host": "127.0.0.1",
        "http_port": start.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": start.cores,
        "debug": False,
    }
    model: dict[str, Any] = {
        "name": "bench",
        "implementation": f"loadtests.peers.mlserver.server.{'Images' if start.workload.pixels else 'Rows'}",
        "max_batch_size": start.workload.max_batch_size,
        "max_batch_time": 0.001,
    }
    (start.directory / "settings.json").write_text(json.dumps(server))
    (start.directory / "model-settings.json").write_text(json.dumps(model))
    return Command([executable("mlserver", "mlserver"), "start", str(start.directory)], settings(start))


def request(workload: Workload) -> Request:
    """The Open Inference Protocol in JSON; an image is base64 there."""
    if workload.pixels:
        data: list[Any] = [base64.b64encode(workload.body).decode()]
        tensor = {"name": "x", "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
    else:
        data = json.loads(workload.body)["instances"][0]
        tensor = {"name": "x", "shape": [1, len(data)], "datatype": "FP32"}
    body = json.dumps({"inputs": [{**tensor, "data": data}]}).encode()
    return Request("/v2/models/bench/infer", {"Content-Type": "application/json"}, body)


def read(answer: Any) -> list[float]:
    """The only output."""
    row: list[float] = answer["outputs"][0]["data"]
    return row


PEER = Peer(
    name="mlserver", title="MLServer", command=command, request=request, read=read, requirements=Path(__file__).parent
)
