"""What serve_config.yaml may say: the settings of every builder and the user_config of every deployment."""

import os
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.batching import BatchSizes
from models.backends import Provider, prepared_sizes
from models.manifest import ArtifactKind
from models.preprocessing import MAX_IMAGE_PIXELS
from models.store import NAME
from models.traffic_settings import TrafficLogSettings as TrafficLogSettings

SERVE_CONFIG = "TILTYARD_SERVE_CONFIG"
"""`tiltyard serve` tells by it which file it serves."""


class GatewaySettings(BaseModel):
    """`args` of the gateway application.

    `max_concurrent_requests` is per Router replica: one more is answered 503 at once. `request_timeout_s` is the
    deadline of a request, reading its body included. `preprocessor_threads` decode images inside one Preprocessor.
    `max_copies` requests at a time are on their way to one version that only watches, from one Router; more are dropped
    and counted. So are copies that would keep a shadow busy for more than `shadow_duty_cycle` of the time, per version
    and Router, too: by default a twentieth for each core of the Router's machine, and at most 1, which is no limit.
    `store` is where the referee keeps each model's history. `operator_key_sha256` is the SHA-256, in hex, of the key
    that /operations asks for; without it there are no operations over HTTP. They edit `serve_config`, a path on the
    Router's machine (relative to the project's root; by default the file that `tiltyard serve` serves), and apply it
    through the Ray `dashboard`. `traffic_log` says what
    is remembered of the traffic; with null nothing is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_concurrent_requests: Annotated[int, Field(ge=1)] = 256
    request_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    max_body_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    max_image_pixels: Annotated[int, Field(ge=1, le=MAX_IMAGE_PIXELS)] = MAX_IMAGE_PIXELS
    max_images_per_request: Annotated[int, Field(ge=1)] = 64
    max_instances_per_request: Annotated[int, Field(ge=1)] = 4096
    preprocessor_threads: Annotated[int, Field(ge=1)] = 1
    max_copies: Annotated[int, Field(ge=0)] = 2
    shadow_duty_cycle: Annotated[float, Field(gt=0, le=1)] | None = None
    store: str = "models/store"
    traffic_log: TrafficLogSettings | None = TrafficLogSettings()
    operator_key_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    serve_config: str = Field(default_factory=lambda: os.environ.get(SERVE_CONFIG, "serve_config.yaml"))
    dashboard: Annotated[str, Field(pattern="^https?://")] = "http://127.0.0.1:8265"


class VersionSettings(BaseModel):
    """`args` of a version's application.

    `store` is absolute or relative to the project's root. `artifact` overrules the one chosen when publishing.
    `threads` run one batch; by default as many as the replica's num_cpus, at least one. `preprocessing` says who
    decodes images: the Preprocessor (`actor`), or the replica itself (`inline`), which saves a call between
    deployments and costs the model its threads. `provider` is what computes: `cuda` and `tensorrt` also need
    `num_gpus` in the deployment's ray_actor_options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    version: Annotated[int, Field(ge=1)]
    store: str = "models/store"
    artifact: ArtifactKind | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    preprocessing: Literal["actor", "inline"] = "actor"
    provider: Provider = "cpu"


FIXED_BATCHES = 4
"""Of a model of fixed size, so many come with one call: one each would cost a call each."""


class Batching(BaseModel):
    """The ModelServer's user_config, in TensorFlow Serving's names: changed while it runs, without a restart.

    A thread that becomes free takes what waits, up to `max_batch_size` rows; `num_batch_threads` batches run at once
    on one replica. While one is free nothing waits, unless `batch_timeout_micros` asks it to wait for company. When
    `max_enqueued_batches` batches per replica wait in a Router, it refuses who comes then. Where
    `max_execution_batch_size` is given, the model computes a batch in portions of no more rows, each decoded just
    before: few rows stay in a CPU's cache, and calls between replicas may still carry many. Where `allowed_batch_sizes`
    are given, what is computed at once is padded up to one of them.

    Source: https://www.tensorflow.org/tfx/serving/serving_config#batching_configuration
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = 32
    max_execution_batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    batch_timeout_micros: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    max_enqueued_batches: Annotated[int, Field(ge=1, le=4096)] = 64
    num_batch_threads: Annotated[int, Field(ge=1, le=64)] = 1
    allowed_batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = ()

    @model_validator(mode="after")
    def _sizes_agree(self) -> "Batching":
        largest, sizes = self.max_execution_batch_size, self.allowed_batch_sizes
        if largest is not None and largest > self.max_batch_size:
            raise ValueError(
                f"max_execution_batch_size {largest} must not be larger than max_batch_size {self.max_batch_size}"
            )
        name = "max_batch_size" if largest is None else "max_execution_batch_size"
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != (largest or self.max_batch_size)):
            raise ValueError(
                f"allowed_batch_sizes {list(sizes)} must rise, and end with {name} {largest or self.max_batch_size}"
            )
        return self

    @property
    def prepared_sizes(self) -> tuple[int, ...]:
        """Rows at once that a replica prepares for: what is allowed, else one and the most, unless that is many."""
        return self.allowed_batch_sizes or prepared_sizes(self.max_execution_batch_size or self.max_batch_size)

    def max_rows(self, fixed: int | None) -> int:
        """Rows of a batch; where a model was exported for a fixed number of them, a few times that."""
        return (
            self.max_batch_size if fixed is None else min(max(1, self.max_batch_size // fixed), FIXED_BATCHES) * fixed
        )

    def max_waiting_rows(self, fixed: int | None) -> int:
        """Rows that may wait in a Router for each replica."""
        return self.max_enqueued_batches * (self.max_batch_size if fixed is None else fixed)

    def sizes(self, fixed: int | None) -> BatchSizes:
        """Rows that are computed at once."""
        if fixed is not None:
            return BatchSizes(fixed, (fixed,))
        return BatchSizes(self.max_execution_batch_size or self.max_batch_size, self.allowed_batch_sizes)
