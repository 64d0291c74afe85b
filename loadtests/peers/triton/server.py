"""Triton's Python backend: all requests of a batch at once, one answer for each."""

import os
import sys
from typing import Any

# The stub starts Python without regard to PYTHONPATH.
sys.path[:0] = [os.environ["BENCH_SITE_PACKAGES"], os.environ["PYTHONPATH"]]

import numpy as np
import triton_python_backend_utils as pb_utils

from loadtests.peers.inference import Model, pixels_from_environment


class TritonPythonModel:
    """The name that the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model in each instance."""
        self.model = Model()
        self.is_image = pixels_from_environment() is not None

    def execute(self, requests: list[Any]) -> list[Any]:
        """Classify a batch."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        rows = np.concatenate(inputs)
        outputs = self.model.classify_images([row[0] for row in rows]) if self.is_image else self.model.run(rows)
        pieces = np.split(outputs, np.cumsum([len(each) for each in inputs])[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("probabilities", piece)]) for piece in pieces]
