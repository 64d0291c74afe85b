"""What several kinds of tests share."""

import os
from pathlib import Path

import pytest

from models.store import Store

# Read when ray is imported, whichever test does so first; `tiltyard` sets it for itself.
os.environ.setdefault("RAY_AUTH_MODE", "token")
# Rich keeps the width that it finds when it is imported, and each worker of pytest-xdist is given one.
os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def digits_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the two digits versions, trained as `tiltyard train digits` trains them."""
    from jobs import digits, train

    store = Store(tmp_path_factory.mktemp("digits_store"))
    data = digits.load()
    for recipe in train.RECIPES:
        train.train(store, data, recipe, lambda *_: None, lambda _: None)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")
