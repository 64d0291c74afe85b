"""Triton: the tritonserver that nvidia-pytriton carries, with its Python backend."""

import json
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from loadtests.peers.launch import ENVIRONMENTS, settings
from loadtests.peers.peer import Command, Peer, Request, Start
from loadtests.workloads import Workload

HERE = Path(__file__).parent
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE_PACKAGES = ENVIRONMENTS / "triton" / "lib" / f"python{PYTHON}" / "site-packages"
SERVER = SITE_PACKAGES / "pytriton" / "tritonserver"


def model_configuration(workload: Workload, cores: int, classes: int) -> str:
    """config.pbtxt: one instance per core, dynamic batching without a wait."""
    kind, dims = ("TYPE_STRING", 1) if workload.pixels else ("TYPE_FP32", 16)
    return f"""
name: "bench"
backend: "python"
max_batch_size: {workload.max_batch_size}
input [ {{ name: "x" data_type: {kind} dims: [ {dims} ] }} ]
output [ {{ name: "probabilities" data_type: TYPE_FP32 dims: [ {classes} ] }} ]
instance_group [ {{ kind: KIND_CPU count: {cores} }} ]
dynamic_batching {{ }}
"""


def command(start: Start) -> Command:
    """A model repository, and a copy of the Python backend with its stub for this Python, as pytriton makes one."""
    model = start.directory / "models" / "bench"
    (model / "1").mkdir(parents=True)
    shutil.copyfile(HERE / "server.py", model / "1" / "model.py")
    backends = start.directory / "backends"
    shutil.copytree(SERVER / "backends", backends)
    shutil.copy(SERVER / "python_backend_stubs" / PYTHON / "triton_python_backend_stub", backends / "python")
    classes = 1000 if start.workload.pixels and start.workload.name != "digits" else 10
    (model / "config.pbtxt").write_text(model_configuration(start.workload, start.cores, classes))
    environment = {
        **settings(start),
        "BENCH_SITE_PACKAGES": str(SITE_PACKAGES),
        "LD_LIBRARY_PATH": f"{SITE_PACKAGES / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}",
    }
    arguments = [
        *(str(SERVER / "bin" / "tritonserver"), f"--model-repository={model.parent}"),
        *(f"--backend-directory={backends}", "--http-address=127.0.0.1", f"--http-port={start.port}"),
        *("--allow-grpc=false", "--allow-metrics=false"),
    ]
    return Command(arguments, environment)


def request(workload: Workload) -> Request:
    """The Open Inference Protocol: an image as binary data behind the JSON, numbers in it."""
    wanted = [{"name": "probabilities", "parameters": {"binary_data": False}}]
    path = "/v2/models/bench/infer"
    if not workload.pixels:
        row = json.loads(workload.body)["instances"][0]
        tensor: dict[str, Any] = {"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}
        body = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
        return Request(path, {"Content-Type": "application/json"}, body)
    data = len(workload.body).to_bytes(4, "little") + workload.body
    tensor = {"name": "x", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Request(path, headers, head + data)


def read(answer: Any) -> list[float]:
    """The only output."""
    row: list[float] = answer["outputs"][0]["data"]
    return row


PEER = Peer(
    name="triton",
    title="Triton, Python backend",
    command=command,
    request=request,
    read=read,
    requirements=HERE,
)
