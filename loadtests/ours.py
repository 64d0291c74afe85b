"""Tiltyard's own entries in the comparison: `tiltyard serve` on a generated serve_config.yaml, all of it.

Router, Preprocessor and ModelServer with their limits and checks, one ModelServer replica with one thread per core.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from loadtests.peers.peer import Command, Peer, Request, Start
from loadtests.server_process import free_port
from loadtests.workloads import STORE, Workload
from models.preprocessing import preprocess
from models.store import Store
from models.version import load_version


@dataclass(frozen=True, slots=True)
class Variant:
    """What a variant adds to the `args` of the applications and to the ModelServer's user_config."""

    name: str
    title: str
    version_args: Mapping[str, Any] = field(default_factory=dict)
    gateway_args: Mapping[str, Any] = field(default_factory=dict)
    batching: Mapping[str, Any] = field(default_factory=dict)
    is_chosen: bool = False
    """Whether it serves what publish chose: int8, OpenVINO and scaled decoding where they are within the tolerance."""
    portion: int = 1
    """Rows of large images that are computed at once: ONNX Runtime is faster one by one, OpenVINO with a few."""

    def version(self, workload: Workload) -> int:
        """The version that it serves."""
        return workload.chosen_version if self.is_chosen else workload.version


IN_PORTIONS = ("mobilenetv2", "resnet50")

SHORT = {"max_batch_size": 2, "max_enqueued_batches": 1}
"""Two images a call, and one call that waits for each replica: what is not refused at once is soon answered."""

VARIANTS = (
    Variant("tiltyard", "Tiltyard, same model.onnx", {"artifact": "onnx"}),
    Variant("tiltyard-chosen", "Tiltyard, artifact that publish chose", portion=4, is_chosen=True),
    Variant(
        "tiltyard-chosen-inline",
        "Tiltyard, artifact that publish chose, decoding in the replica",
        {"preprocessing": "inline"},
        portion=4,
        is_chosen=True,
    ),
    Variant("tiltyard-inline", "Tiltyard, decoding in the replica", {"artifact": "onnx", "preprocessing": "inline"}),
    Variant("tiltyard-short", "Tiltyard, short queues", {"artifact": "onnx"}, batching=SHORT),
)


def serve_config(variant: Variant, start: Start) -> dict[str, Any]:
    """The whole configuration: one place to change when its keys do."""
    workload = start.workload
    gateway = {
        "name": "gateway",
        "route_prefix": "/",
        "import_path": "deployments.app:gateway",
        "args": {
            "max_concurrent_requests": 256,
            "request_timeout_s": 30,
            "traffic_log": {"root": str(start.directory / "traffic")},
            **variant.gateway_args,
        },
        "deployments": [
            {
                "name": "Router",
                "num_replicas": 1,
                "user_config": {
                    "default_model": workload.name,
                    "models": {workload.name: {"champion": variant.version(workload)}},
                },
            },
            {"name": "Preprocessor", "num_replicas": 1},
        ],
    }
    version = {
        "name": f"{workload.name}-v{variant.version(workload)}",
        "route_prefix": None,
        "import_path": "deployments.app:model_version",
        "args": {
            "model": workload.name,
            "version": variant.version(workload),
            "store": str(STORE),
            "threads": 1,
            **variant.version_args,
        },
        "deployments": [
            {
                "name": "ModelServer",
                "autoscaling_config": {"min_replicas": start.cores, "max_replicas": start.cores},
                "user_config": {**batching(workload, variant.portion), **variant.batching},
            }
        ],
    }
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": start.port, "request_timeout_s": 60},
        "applications": [gateway, version],
    }


def batching(workload: Workload, portion: int) -> dict[str, int]:
    """The largest batch that all are told; of large images it is computed in portions, which on a CPU is faster."""
    portions = {"max_execution_batch_size": portion} if workload.name in IN_PORTIONS else {}
    return {"max_batch_size": workload.max_batch_size, **portions}


def peer(variant: Variant) -> Peer:
    """A variant as the benchmark sees it."""

    def command(start: Start) -> Command:
        path = start.directory / "serve_config.yaml"
        with path.open("w") as file:
            YAML().dump(serve_config(variant, start), file)
        environment = {
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        }
        return Command([str(Path(sys.executable).with_name("tiltyard")), "serve", str(path)], environment)

    return Peer(
        variant.name,
        variant.title,
        command,
        request,
        read,
        interrupt=True,
        startup_timeout_s=180,
        expected=chosen_answer if variant.is_chosen else None,
    )


def request(workload: Workload) -> Request:
    """The routes that users have."""
    path = f"/models/{workload.name}/predict" if workload.pixels else f"/v1/models/{workload.name}:predict"
    return Request(path, {"Content-Type": workload.media_type}, workload.body)


@cache
def chosen_answer(workload: Workload) -> list[float]:
    """What the chosen artifact answers in process, with the decoding that was chosen for it."""
    loaded = load_version(Store(STORE), workload.name, workload.chosen_version)
    if loaded.manifest.preprocessing is not None:
        row = preprocess(workload.body, loaded.manifest.preprocessing)
    else:
        row = np.asarray(json.loads(workload.body)["instances"][0], np.float32)
    outputs = loaded.backend.run({loaded.backend.signature.inputs[0].name: row[None]})
    return [float(value) for value in next(iter(outputs.values()))[0]]


def read(answer: Any) -> list[float]:
    """Probabilities of an image by class, in their order, or the prediction of the only row."""
    if "predictions" in answer:
        row: list[float] = answer["predictions"][0]
        return row
    return list(answer["all_probabilities"].values())


OURS: Mapping[str, Peer] = {variant.name: peer(variant) for variant in VARIANTS}
