"""How far an artifact may be from its model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """How much of a model may be given up for speed.

    Where right classes are known: accuracy, as a share of the rows. Else the share of rows on which the likeliest
    class must stay the same; for outputs that are no classes, the largest difference as a share of the output's range.
    """

    max_accuracy_loss: float = 0.005
    min_agreement: float = 0.99
    max_difference: float = 0.02
