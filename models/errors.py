"""The one family of errors.

    TiltyardError                  500  internal_error
    ├── InvalidRequest             400  invalid_request
    │   ├── EmptyBody              400  empty_body
    │   ├── InvalidJSON            400  invalid_json
    │   ├── InvalidImage           400  invalid_image
    │   ├── InvalidTensor          400  invalid_tensor
    │   └── InvalidConfig          400  invalid_config
    ├── PayloadTooLarge            413  payload_too_large
    │   └── ImageTooLarge          413  image_too_large
    ├── UnsupportedMediaType       415  unsupported_media_type
    ├── Unauthorized               401  unauthorized
    ├── NotFound                   404  not_found
    │   ├── ModelNotFound          404  model_not_found
    │   └── VersionNotFound        404  version_not_found
    ├── Conflict                   409  conflict
    │   ├── Busy                   409  busy
    │   └── VersionExists          409  version_exists
    ├── Overloaded                 503  overloaded
    ├── ModelUnavailable           503  model_unavailable
    │   └── ReplicaDied            503  model_unavailable
    ├── RefereeUnavailable         503  referee_unavailable
    ├── DeadlineExceeded           504  deadline_exceeded
    ├── TrafficUnavailable         503  traffic_unavailable
    ├── InvalidTraffic             500  invalid_traffic
    ├── ModelFailed                500  model_failed
    ├── InvalidVersion             500  invalid_version
    │   ├── InvalidManifest        500  invalid_manifest
    │   └── ConversionFailed       500  conversion_failed
    └── ServiceError               500  service_error
        ├── ServiceNotRunning      500  service_not_running
        └── DeployFailed           500  deploy_failed

Every message is written for the person who sent the request or typed the command, so it holds no path of the
server and no traceback. Constructors are the default ones: an exception with its own breaks when it is pickled
on its way from one replica to another.
"""

from typing import ClassVar

UNEXPECTED = "the service failed to answer; the request id finds the reason in its log"
"""What a client is told of a bug."""


class TiltyardError(Exception):
    """Anything Tiltyard refuses or fails to do, with the HTTP status and the code a client sees."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    @property
    def message(self) -> str:
        """The sentence for the client."""
        return str(self)


class InvalidRequest(TiltyardError):
    """The request cannot be answered as it stands."""

    status = 400
    code = "invalid_request"


class EmptyBody(InvalidRequest):
    """A body was expected and none came."""

    code = "empty_body"


class InvalidJSON(InvalidRequest):
    """The body is not the JSON that was expected."""

    code = "invalid_json"


class InvalidImage(InvalidRequest):
    """The bytes are not an image that can be decoded."""

    code = "invalid_image"


class InvalidTensor(InvalidRequest):
    """An input has the wrong name, shape, dtype or value."""

    code = "invalid_tensor"


class InvalidConfig(InvalidRequest):
    """A serve_config.yaml that cannot be served; the message names the field."""

    code = "invalid_config"


class PayloadTooLarge(TiltyardError):
    """More bytes than the service accepts."""

    status = 413
    code = "payload_too_large"


class ImageTooLarge(PayloadTooLarge):
    """More pixels than the service decodes."""

    code = "image_too_large"


class UnsupportedMediaType(TiltyardError):
    """A content type or an image format that is not served."""

    status = 415
    code = "unsupported_media_type"


class Unauthorized(TiltyardError):
    """An operation without the operator's key."""

    status = 401
    code = "unauthorized"


class NotFound(TiltyardError):
    """No such route."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """No model of that name."""

    code = "model_not_found"


class VersionNotFound(NotFound):
    """The model has no such version."""

    code = "version_not_found"


class Conflict(TiltyardError):
    """What was asked for contradicts what is there."""

    status = 409
    code = "conflict"


class Busy(Conflict):
    """Somebody else is changing the same thing; try again when they are done."""

    code = "busy"


class VersionExists(Conflict):
    """Versions are immutable: that number is taken."""

    code = "version_exists"


class Overloaded(TiltyardError):
    """Too many requests are waiting; try again in `retry_after_s` seconds."""

    status = 503
    code = "overloaded"
    retry_after_s: ClassVar[int] = 1


class ModelUnavailable(TiltyardError):
    """The model is configured but cannot answer now."""

    status = 503
    code = "model_unavailable"
    retry_after_s: ClassVar[int] = 2


class ReplicaDied(ModelUnavailable):
    """Every replica that took the request died with it."""


class RefereeUnavailable(TiltyardError):
    """The referee does not answer now; predictions go on without it."""

    status = 503
    code = "referee_unavailable"
    retry_after_s: ClassVar[int] = 2


class DeadlineExceeded(TiltyardError):
    """No answer within the request's deadline."""

    status = 504
    code = "deadline_exceeded"


class TrafficUnavailable(TiltyardError):
    """The tables of the traffic cannot be reached, read or written now."""

    status = 503
    code = "traffic_unavailable"
    retry_after_s: ClassVar[int] = 10


class InvalidTraffic(TiltyardError):
    """Records, or a table of them, that are not what this program writes."""

    code = "invalid_traffic"


class ModelFailed(TiltyardError):
    """The model raised, or answered with something that is no answer (NaN, say)."""

    code = "model_failed"


class InvalidVersion(TiltyardError):
    """A version that cannot be served: changed on disk, unreadable, or not reproducing its golden outputs."""

    code = "invalid_version"


class InvalidManifest(InvalidVersion):
    """A manifest.json that cannot be read."""

    code = "invalid_manifest"


class ConversionFailed(InvalidVersion):
    """A model that cannot be turned into an artifact."""

    code = "conversion_failed"


class ServiceError(TiltyardError):
    """The running service, as the commands see it, did not do what it was told."""

    code = "service_error"


class ServiceNotRunning(ServiceError):
    """No Ray dashboard answers at the address."""

    code = "service_not_running"


class DeployFailed(ServiceError):
    """The service did not come to run what it was told to, with the reason."""

    code = "deploy_failed"
