"""What is remembered of the traffic: the columns of every record, and where the records lie.

    <root>/predictions/<model>    one row per prediction: an image, or a row of tensors
    <root>/inputs/<model>         the inputs themselves, where that is configured
    <root>/feedback               what the classes really were, by request id

Each is a Delta table, partitioned by day (UTC). The feature rows of a validation set (`reference.parquet` beside a
version) have the columns of a prediction, so that traffic and reference are compared column by column.
"""

from datetime import date, datetime
from typing import Final, Literal

import pyarrow as pa

SCHEMA_VERSION: Final = 1
"""Of `PREDICTIONS`. Columns are added without a new one; it rises where one changes its meaning."""

Kind = Literal["predictions", "inputs", "feedback"]

IMAGE = "image_"
"""Begins the name of a feature of an image as it was sent (models/features.py)."""

INPUT = "input_"
"""Begins the name of a feature of a tensor: a column of a tabular signature, or a summary of a larger tensor."""

MAX_PROBABILITIES = 100
"""Probabilities are kept of models with no more classes than these."""

OK = "ok"
"""The `status` of a prediction that was answered; otherwise it is the code of the error."""

_TIME = pa.timestamp("us", tz="UTC")

_ORIGIN = [
    # Unique: the process that wrote the record, and its number there. Request ids are the clients' and may come twice.
    pa.field("writer", pa.string(), nullable=False),
    pa.field("sequence", pa.int64(), nullable=False),
    pa.field("time", _TIME, nullable=False),  # when the request was answered
    pa.field("day", pa.date32(), nullable=False),  # of that time; the partition
    pa.field("request_id", pa.string(), nullable=False),
]

PREDICTIONS = pa.schema(
    [
        pa.field("schema_version", pa.int8(), nullable=False),
        *_ORIGIN,
        pa.field("item", pa.int32(), nullable=False),  # image or row of its request, from 0
        pa.field("model", pa.string(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("variant", pa.string(), nullable=False),  # champion, challenger or shadow
        pa.field("cache_hit", pa.bool_(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # "ok", or the code of the error
        pa.field("key_id", pa.string()),  # names the API key without telling it; null where none was sent
        pa.field("weight", pa.float32(), nullable=False),  # how many predictions it stands for: 1 / sampling share
        # Milliseconds. queue: in the Router; batch: in the replica for its batch; compute: the batch in the model.
        pa.field("total_ms", pa.float32()),
        pa.field("queue_ms", pa.float32()),
        pa.field("preprocess_ms", pa.float32()),
        pa.field("batch_ms", pa.float32()),
        pa.field("compute_ms", pa.float32()),
        # What the model said; null where it does not answer with classes.
        pa.field("label", pa.string()),
        pa.field("confidence", pa.float32()),  # probability of the label
        pa.field("margin", pa.float32()),  # confidence less the next probability
        pa.field("entropy", pa.float32()),  # of the probabilities, in nats
        pa.field("probabilities", pa.list_(pa.float32())),  # in label order
        pa.field("embedding", pa.binary()),  # float16, little-endian; Delta has no such type
        # Of a shadow, and of a challenger that the champion was asked beside.
        pa.field("compared_with", pa.int32()),  # the champion's version
        pa.field("agrees", pa.bool_()),
        pa.field("mean_difference", pa.float32()),  # absolute, of the output tensors
        pa.field("max_difference", pa.float32()),
    ]
)
"""Columns of every model's predictions; those of the features come behind, as `IMAGE_FEATURES` or by signature."""

IMAGE_FEATURES = pa.schema(
    [
        pa.field("image_width", pa.float32()),  # pixels, upright
        pa.field("image_height", pa.float32()),
        pa.field("image_aspect", pa.float32()),  # width / height
        pa.field("image_bytes", pa.float32()),  # encoded
        pa.field("image_format", pa.string()),  # PNG, JPEG, WEBP
        # Of pixel values from 0 to 1, at most 64 x 64 of them, evenly spaced.
        pa.field("image_brightness", pa.float32()),  # mean luma
        pa.field("image_contrast", pa.float32()),  # standard deviation of luma
        pa.field("image_sharpness", pa.float32()),  # variance of the Laplacian
        pa.field("image_saturation", pa.float32()),  # mean of (max - min) / max over the colours
        pa.field("image_dark_share", pa.float32()),  # luma below 0.1
        pa.field("image_clipped_share", pa.float32()),  # any colour at 0 or 255
        pa.field("image_red", pa.float32()),  # means
        pa.field("image_green", pa.float32()),
        pa.field("image_blue", pa.float32()),
    ]
)

INPUTS = pa.schema(
    [
        *_ORIGIN,
        pa.field("item", pa.int32(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("content_type", pa.string(), nullable=False),  # image/*, or application/x-npz: a row of tensors
        pa.field("content", pa.binary(), nullable=False),
    ]
)

FEEDBACK = pa.schema(
    [
        *_ORIGIN,  # its time is when it came; the newest of a request's counts
        pa.field("label", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # http or import
        pa.field("item", pa.int32()),  # image or row of its request; null: the only one
        # Of what `label-sample` drew: how many logged predictions it stands for. Null where a label came by itself.
        pa.field("weight", pa.float64()),
        pa.field("model", pa.string()),  # whose answer; null: whichever model answered a request of that id
    ]
)

SCHEMAS: dict[Kind, pa.Schema] = {"predictions": PREDICTIONS, "inputs": INPUTS, "feedback": FEEDBACK}


def day_of(time: datetime) -> date:
    """The partition of a record's time (timezone-aware, UTC)."""
    return time.date()


def is_feature(column: str) -> bool:
    """Whether a column tells of the input."""
    return column.startswith((IMAGE, INPUT))
