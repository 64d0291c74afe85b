"""MLServer: a custom inference runtime, with its codecs at the edges."""

from typing import Any

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtests.peers.inference import Model


class Runtime(MLModel):
    """What both have in common."""

    async def load(self) -> bool:
        """Load the model in each worker."""
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Classify a batch."""
        output = NumpyCodec.encode_output(name="probabilities", payload=self.classify(payload))
        return InferenceResponse(model_name=self.name, outputs=[output])

    def classify(self, payload: InferenceRequest) -> Any:
        """Class probabilities [n, classes]."""
        raise NotImplementedError


class Images(Runtime):
    """Encoded images."""

    def classify(self, payload: InferenceRequest) -> Any:
        """Decode and classify."""
        return self.model.classify_images(Base64Codec.decode_input(payload.inputs[0]))


class Rows(Runtime):
    """Rows of numbers."""

    def classify(self, payload: InferenceRequest) -> Any:
        """Classify."""
        return self.model.run(NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32))
