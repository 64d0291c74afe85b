"""Who answers a request: by its share of the traffic, and always the same for who sticks."""

import hashlib
import math
import random

from models.policy import ModelPolicy


def draw(policy: ModelPolicy, key: str | None) -> int:
    """The version that answers. With a key the same one each time, whatever the process, while shares and salt stay.

    Weighted rendezvous hashing: each version draws a number for the key, and the one that arrives first at a speed of
    its share answers. So a share that grows takes keys over, and with one challenger moves no others. With several a
    few move between them and the champion, whose own share shrinks: a tenth of what moves, for shares of 0.1. Sources:
    D. Thaler and C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM ToN 1998; J. Resch, "New
    Hashing Algorithms for Data Storage", SNIA SDC 2015 (the logarithm).
    """
    if not any(policy.challengers.values()):
        return policy.champion
    if key is None:
        return _by_chance(policy, random.random())
    salt = policy.sticky.salt if policy.sticky else ""
    answering = [version for version in (policy.champion, *policy.challengers) if policy.share(version) > 0]
    return min(answering, key=lambda version: _arrival(f"{salt}\0{version}\0{key}", policy.share(version)))


def _arrival(text: str, share: float) -> float:
    """An exponentially distributed number of that rate, from a text."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return -math.log((number + 1) / 2**64) / share


def _by_chance(policy: ModelPolicy, point: float) -> int:
    for version, share in policy.challengers.items():
        if point < share:
            return version
        point -= share
    return policy.champion
