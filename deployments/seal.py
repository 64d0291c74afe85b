"""What replicas send each other, pickled; sealed with a secret where somebody else could send it too."""

import hashlib
import hmac
import pickle
from typing import Any

SEAL_BYTES = 16


class WrongSeal(Exception):
    """Whoever sent this does not know the secret, so it must not be unpickled."""


def seal(secret: bytes, message: Any) -> bytes:
    """Pickle a message, where there is a secret behind a keyed BLAKE2b of it."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    if not secret:
        return body
    return hashlib.blake2b(body, key=secret, digest_size=SEAL_BYTES).digest() + body


def unseal(secret: bytes, sealed: bytes | bytearray) -> Any:
    """Unpickle a message that somebody sealed who knows the secret. Raises WrongSeal."""
    if not secret:
        return pickle.loads(sealed)
    body = memoryview(sealed)[SEAL_BYTES:]
    expected = hashlib.blake2b(body, key=secret, digest_size=SEAL_BYTES).digest()
    if not hmac.compare_digest(sealed[:SEAL_BYTES], expected):
        raise WrongSeal
    return pickle.loads(body)
