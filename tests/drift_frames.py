"""Made-up traffic for the drift job. Imported in both environments, so without pytest."""

import numpy as np
import pyarrow as pa

from jobs.drift.frame import Frame


def odd_frames() -> tuple[Frame, Frame]:
    """Columns of every kind that has a rule of its own: few values, rare ones, NaN, infinity, new categories."""
    dice = np.random.default_rng(0)

    def side(rows: int, shift: float, classes: str) -> Frame:
        holes = dice.normal(size=rows).astype(np.float32)
        holes[:40], holes[40:60] = np.nan, np.inf
        return Frame(
            pa.table(
                {
                    "image_width": dice.choice([32.0, 64.0, 96.0], size=rows),
                    "image_bytes": dice.lognormal(7 + shift, 1, size=rows).astype(np.float32),
                    "image_brightness": holes + np.float32(shift),
                    "image_format": dice.choice(["PNG", "JPEG"], size=rows),
                    "input_rare": np.where(dice.random(rows) < 0.0005, 5, 0) + dice.integers(0, 3, rows),
                    "label": dice.choice(list(classes), size=rows),
                    "confidence": dice.beta(8, 1 + shift, size=rows).astype(np.float32),
                }
            )
        )

    return side(12_000, 0.0, "abc"), side(3000, 0.4, "abcd")


def outputs(rows: int, dice: np.random.Generator, shift: float = 0.0, burst: int = 1) -> Frame:
    """Predictions, alike within each burst of a client."""
    bursts = -(-rows // burst)
    middle = np.repeat(dice.normal(size=bursts), burst)[:rows] if burst > 1 else dice.normal(size=rows)
    confidence = 1 / (1 + np.exp(-(2 + middle)))
    is_right = dice.random(rows) < confidence
    return Frame(
        pa.table(
            {
                "time": pa.array(np.arange(rows) * 1_000_000, pa.timestamp("us", tz="UTC")),
                "key_id": [f"client-{row // burst if burst > 1 else row % 20}" for row in range(rows)],
                "request_id": [f"request-{row}" for row in range(rows)],
                "status": ["ok"] * rows,
                "image_brightness": middle + shift + dice.normal(0, 0.1, rows),
                "label": ["yes"] * rows,
                "confidence": confidence,
                "true_label": np.where(is_right, "yes", "no").tolist(),
            }
        )
    )
