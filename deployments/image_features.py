"""Features of images beside the answers, for the traffic log: whatever goes wrong with them, the answer does not."""

import logging
from collections.abc import Mapping

from models.features import ImageFeatures, Sample, image_features, sample
from models.preprocessing import Picture

logger = logging.getLogger("ray.serve")


def sample_of(picture: Picture) -> Sample | None:
    """What the features are computed from; None where that fails."""
    try:
        return sample(picture)
    except Exception:
        logger.exception("an image could not be sampled")
        return None


def features_of(samples: Mapping[int, Sample]) -> dict[int, ImageFeatures]:
    """Features by place; without those that fail."""
    features = {}
    for place, each in samples.items():
        try:
            features[place] = image_features(each)
        except Exception:
            logger.exception("the features of an image could not be computed")
    return features
