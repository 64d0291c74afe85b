"""Where the tables of the traffic lie, a directory or S3, and what its failures mean.

Sources: https://delta-io.github.io/delta-rs/integrations/object-storage/s3/, object_store's configuration keys.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError

from models.errors import Busy, InvalidTraffic, TrafficUnavailable

FAILURES = (DeltaError, OSError, pa.ArrowException)
"""What deltalake and pyarrow raise where storage fails."""

# Their own texts are not passed on: S3 repeats keys and signatures in its answers, and a file's has its path.
_MISFIT = r"non-nullable|not-nullable|null value|cast error|invalid data found|schema mismatch"
_CAUSES: tuple[tuple[str, str], ...] = (
    (r"no space left|disk quota|os error 28\b", "the disk is full"),
    (r"read-only file system|os error 30\b", "the file system is read-only"),
    (r"nosuchbucket", "there is no such bucket"),
    (
        r"accessdenied|invalidaccesskeyid|signaturedoesnotmatch|expiredtoken|forbidden|unauthorized|\b40[13]\b"
        r"|credential|permission denied|os error 13\b",
        "access was refused (of S3: the AWS_* variables)",
    ),
    (r"error sending request|connection|timed? ?out|dns|scheme is not allowed", "it cannot be reached"),
    (r"no such file|not found|os error 2\b", "a file is gone; what reads it may try again"),
)


def storage_options(root: str) -> dict[str, str] | None:
    """Options for tables under a root: the AWS_* variables where it is in S3; None for a directory."""
    if not root.startswith(("s3://", "s3a://")):
        return None
    options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    if options.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        options.setdefault("AWS_ALLOW_HTTP", "true")
    if "AWS_S3_LOCKING_PROVIDER" not in options:
        # Two appenders at once: S3 itself refuses the second to write a commit's name (If-None-Match).
        options.setdefault("AWS_CONDITIONAL_PUT", "etag")
    return {"max_retries": "4", "retry_timeout": "30s", **options}


def local_path(uri: str) -> str | None:
    """Path of a table in a directory; None where it is elsewhere."""
    return None if "://" in uri else uri


@contextmanager
def failures_typed(what: str) -> Iterator[None]:
    """Raise Busy, InvalidTraffic or TrafficUnavailable for the storage's failures, with words that hold no secrets."""
    try:
        yield
    except CommitFailedError:
        raise Busy(f"{what}: others kept changing the same table; try again") from None
    except (SchemaMismatchError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InvalidTraffic(f"{what}: the records do not fit the table ({type(error).__name__})") from None
    except TableNotFoundError:
        raise TrafficUnavailable(f"{what}: the table is gone") from None
    except FAILURES as error:
        if re.search(_MISFIT, str(error).lower()):
            raise InvalidTraffic(f"{what}: the records do not fit the table") from None
        raise TrafficUnavailable(f"{what}: {_cause(error)}") from None


def _cause(error: Exception) -> str:
    text = str(error).lower()
    return next(
        (words for pattern, words in _CAUSES if re.search(pattern, text)), f"it failed ({type(error).__name__})"
    )
