"""What serve_config.yaml may say: the settings of every builder and the user_config of every deployment."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.batching import BatchSizes
from models.backends import Provider
from models.manifest import ArtifactKind
from models.preprocessing import MAX_IMAGE_PIXELS
from models.store import NAME, resolve_root


class TrafficLogSettings(BaseModel):
    """What is remembered of the traffic, and where.

    `root` holds the tables: a directory, relative to the project's root, or `s3://bucket/prefix`. A Router writes into
    `spool`, by default `<root>/.spool`, at least every `flush_period_s`, which is what a kill may cost; every
    `append_period_s` what is spooled is moved into the tables. `sample` is the share of requests that are recorded,
    with weight 1 / sample; `inputs` the share of those whose inputs themselves are kept. Of more than
    `max_buffered_records` that the disk does not take, and of what comes while the spool holds more than
    `max_spool_bytes`, the newest are lost, and counted. Rows are dropped after `retention_days`, kept inputs after
    `inputs_retention_days`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: Annotated[str, Field(min_length=1)] = "models/traffic"
    spool: str | None = None
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    inputs: Annotated[float, Field(ge=0, le=1)] = 0.0
    flush_period_s: Annotated[float, Field(ge=0.05, le=1)] = 0.5
    append_period_s: Annotated[float, Field(ge=1)] = 30.0
    max_buffered_records: Annotated[int, Field(ge=1)] = 100_000
    max_spool_bytes: Annotated[int, Field(ge=1)] = 1024**3
    retention_days: Annotated[int, Field(ge=1)] = 90
    inputs_retention_days: Annotated[int, Field(ge=1)] = 30

    @model_validator(mode="after")
    def _spool_is_on_a_disk(self) -> "TrafficLogSettings":
        if self.spool is None and "://" in self.root:
            raise ValueError(f"spool: a directory is needed where root is {self.root!r}")
        if self.spool is not None and "://" in self.spool:
            raise ValueError("spool: must be a directory, whatever root is")
        return self

    @property
    def root_uri(self) -> str:
        """Where the tables are, absolute."""
        return self.root if "://" in self.root else str(resolve_root(self.root))

    @property
    def spool_path(self) -> Path:
        """Where Routers write."""
        return resolve_root(self.spool) if self.spool is not None else resolve_root(self.root) / ".spool"


class GatewaySettings(BaseModel):
    """`args` of the gateway application.

    `max_concurrent_requests` is per Router replica: one more is answered 503 at once. `request_timeout_s` is the
    deadline of a request, reading its body included. `preprocessor_threads` decode images inside one Preprocessor.
    `max_copies` requests at a time are on their way to one version that only watches, from one Router; more are dropped
    and counted. `store` is where the referee keeps each model's history. `operator_key_sha256` is the SHA-256, in
    hex, of the key that /operations asks for; without it there are no operations over HTTP. They edit `serve_config`, a
    path on the Router's machine (relative to the project's root), and apply it through the Ray `dashboard`.
    `traffic_log` says what is remembered of the traffic; with null nothing is.
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
    store: str = "models/store"
    traffic_log: TrafficLogSettings | None = TrafficLogSettings()
    operator_key_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    serve_config: str = "serve_config.yaml"
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


class Batching(BaseModel):
    """The ModelServer's user_config, in TensorFlow Serving's names: changed while it runs, without a restart.

    A thread that becomes free takes what waits, up to `max_batch_size` rows; `num_batch_threads` batches run at once
    on one replica. While one is free nothing waits, unless `batch_timeout_micros` asks it to wait for company. When
    `max_enqueued_batches` batches per replica wait in a Router, it refuses who comes then. Where `allowed_batch_sizes`
    are given, a batch is padded up to one of them.

    Source: https://www.tensorflow.org/tfx/serving/serving_config#batching_configuration
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = 32
    batch_timeout_micros: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    max_enqueued_batches: Annotated[int, Field(ge=1, le=4096)] = 64
    num_batch_threads: Annotated[int, Field(ge=1, le=64)] = 1
    allowed_batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = ()

    @model_validator(mode="after")
    def _sizes_rise_to_the_largest(self) -> "Batching":
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise ValueError(
                f"allowed_batch_sizes {list(sizes)} must rise, and end with max_batch_size {self.max_batch_size}"
            )
        return self

    def sizes(self, fixed: int | None) -> BatchSizes:
        """The sizes of batches, for a model that was exported for a fixed one or for any."""
        if fixed is not None:
            return BatchSizes(fixed, (fixed,))
        return BatchSizes(self.max_batch_size, self.allowed_batch_sizes)
