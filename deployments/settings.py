"""What serve_config.yaml may say: the settings of every builder and the user_config of every deployment."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.manifest import ArtifactKind
from models.preprocessing import MAX_IMAGE_PIXELS
from models.store import NAME

MAX_CONCURRENT_BATCHES = 8


class GatewaySettings(BaseModel):
    """`args` of the gateway application.

    `max_concurrent_requests` is per Router replica: one more is answered 503 at once. `request_timeout_s` is the
    deadline of a request, reading its body included. `preprocessor_threads` decode images inside one Preprocessor.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_concurrent_requests: Annotated[int, Field(ge=1)] = 256
    request_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    max_body_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    max_image_pixels: Annotated[int, Field(ge=1, le=MAX_IMAGE_PIXELS)] = MAX_IMAGE_PIXELS
    max_images_per_request: Annotated[int, Field(ge=1)] = 64
    max_instances_per_request: Annotated[int, Field(ge=1)] = 4096
    preprocessor_threads: Annotated[int, Field(ge=1)] = 1


class VersionSettings(BaseModel):
    """`args` of a version's application.

    `store` is absolute or relative to the project's root. `artifact` overrules the one chosen when publishing.
    `threads` run one batch; by default as many as the replica's num_cpus, at least one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    version: Annotated[int, Field(ge=1)]
    store: str = "models/store"
    artifact: ArtifactKind | None = None
    threads: Annotated[int, Field(ge=1)] | None = None


class Batching(BaseModel):
    """The ModelServer's user_config: changed while it runs, without a restart.

    A batch closes at `max_batch_size` requests or `batch_wait_timeout_s` after its first one;
    `max_concurrent_batches` of them run at once on one replica.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = 32
    batch_wait_timeout_s: Annotated[float, Field(ge=0, le=1)] = 0.001
    max_concurrent_batches: Annotated[int, Field(ge=1, le=MAX_CONCURRENT_BATCHES)] = 1
