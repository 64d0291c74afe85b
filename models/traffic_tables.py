"""All tables of the traffic under one root: a directory, or a place in S3."""

from pathlib import Path

from deltalake.fs import DeltaStorageHandler
from pyarrow import fs

from models.errors import ModelNotFound
from models.store import NAME, check_name
from models.traffic import Kind
from models.traffic_storage import failures_typed, local_path, storage_options
from models.traffic_table import TrafficTable

__all__ = ["TrafficTable", "TrafficTables"]


class TrafficTables:
    """All tables under one root: a directory, or `s3://bucket/prefix` with the usual AWS_* variables."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") if "://" in root else str(Path(root).resolve())

    def predictions(self, model: str) -> "TrafficTable":
        """What was asked of a model, and answered."""
        return TrafficTable(f"{self.root}/predictions/{check_name(model)}", "predictions")

    def inputs(self, model: str) -> "TrafficTable":
        """The inputs that were kept."""
        return TrafficTable(f"{self.root}/inputs/{check_name(model)}", "inputs")

    def feedback(self) -> "TrafficTable":
        """True classes by request id, of all models."""
        return TrafficTable(f"{self.root}/feedback", "feedback")

    def table(self, kind: Kind, model: str) -> "TrafficTable":
        """A table by its kind; feedback has one for all models."""
        return self.feedback() if kind == "feedback" else getattr(self, kind)(model)

    def models(self) -> list[str]:
        """Names of the models that have traffic, sorted. Raises TrafficUnavailable."""
        with failures_typed("reading the traffic log"):
            if local_path(self.root) and not Path(self.root, "predictions").is_dir():
                return []
            handler = DeltaStorageHandler(f"{self.root}/predictions", storage_options(self.root))
            found = fs.PyFileSystem(handler).get_file_info(fs.FileSelector("", allow_not_found=True))
        return sorted(each.base_name for each in found if NAME.fullmatch(each.base_name))

    def known(self, model: str) -> "TrafficTable":
        """A model's predictions. Raises ModelNotFound where none were logged, TrafficUnavailable."""
        table = self.predictions(model)
        if not table.exists():
            there = ", ".join(self.models()) or "none"
            raise ModelNotFound(f"no traffic of model {model!r} was logged; there is that of: {there}")
        return table
