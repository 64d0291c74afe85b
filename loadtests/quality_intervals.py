"""How often the interval of an accuracy that is estimated from a drawn sample holds the true one.

    python -m loadtests.quality_intervals [--samples 1500]

Of 20,000 predictions, about one in ten wrong and the more often the smaller the margin, samples are drawn as
`tiltyard label-sample --by uncertainty` does, with several floors. Prints a row each, and exits 1 where an interval of
95 % holds in fewer than 94 % of the samples.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from jobs.estimates import Flags, Floats, share
from jobs.sampling import chances, draw

PREDICTIONS = 20_000
LABELS = (100, 400)
FLOORS = (0.05, 0.1, 0.3, 1.0)
LEAST = 0.94


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=1500)
    options = parser.parse_args(arguments)
    random = np.random.default_rng(0)
    margin = random.beta(8, 1, PREDICTIONS)
    is_right = random.random(PREDICTIONS) < margin
    held = []
    for labels in LABELS:
        for floor in FLOORS:
            chance = chances(floor + 1 - margin, labels)
            held.append(share_held(is_right, chance, options.samples, random))
            print(f"{labels} labels, floor {floor:4}: {held[-1]:.1%} of the intervals hold it", flush=True)
    return int(min(held) < LEAST)


def share_held(is_right: Flags, chance: Floats, samples: int, random: np.random.Generator) -> float:
    """The share of samples whose interval holds the accuracy of all."""
    held = 0
    for _ in range(samples):
        drawn = draw(chance, random)
        found = share(is_right[drawn], 1 / chance[drawn])
        assert found is not None
        held += found.low <= is_right.mean() <= found.high
    return held / samples


if __name__ == "__main__":
    sys.exit(main())
