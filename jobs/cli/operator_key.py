"""`tiltyard operator-key`."""

import hashlib
import secrets

from jobs.printing import out


def operator_key() -> None:
    """Make a key for operations over HTTP: give the key to the operator, and its hash to the gateway.

    The gateway keeps the hash only, so serve_config.yaml may lie in git:

    applications: [{name: gateway, args: {operator_key_sha256: ...}}]

    curl -X POST http://127.0.0.1:8000/operations/digits/challenge -H "authorization: Bearer KEY" -d '{"version": 2}'
    """
    key = secrets.token_urlsafe(32)
    out.print(f"key                  {key}", markup=False, highlight=False, soft_wrap=True)
    out.print(
        f"operator_key_sha256: {hashlib.sha256(key.encode()).hexdigest()}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
