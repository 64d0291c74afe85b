"""What `tiltyard serve --watch` does with the file, where no service runs."""

import shutil
import time
from pathlib import Path

import pytest

from jobs import watch
from jobs.author import Author
from jobs.change import carry_out
from jobs.newcomers import Newcomers
from jobs.rollout import plan_retire
from jobs.serve_config import ServeConfig
from loadtests.server_process import free_port
from models.rollout import History
from models.store import Store
from tests.tiny import affine, affine_service, floats, lookup, put


@pytest.fixture
def newcomers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Newcomers, Store, list[str]]:
    """One served version, and an eye on its store."""
    monkeypatch.setattr(watch, "SETTLED_S", 0.05)
    store = Store(tmp_path / "store")
    put(store, "affine", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    path = tmp_path / "serve_config.yaml"
    path.write_text(affine_service(store, "{champion: 1, newcomers: {variant: shadow, share: 0.5}}"))
    said: list[str] = []
    return Newcomers(path, f"http://127.0.0.1:{free_port()}", said.append), store, said


def look(made: Newcomers) -> list[tuple[str, int]]:
    """Look, give it time to settle, and look again."""
    made.look()
    time.sleep(0.1)
    return made.look()


def test_a_version_that_appears_joins(newcomers: tuple[Newcomers, Store, list[str]], tmp_path: Path) -> None:
    made, store, said = newcomers
    assert look(made) == []
    shutil.copytree(store.root / "affine" / "1", tmp_path / "copy")
    (tmp_path / "copy").rename(store.root / "affine" / "2")
    assert look(made) == [("affine", 2)]
    assert ServeConfig.read(tmp_path / "serve_config.yaml").model("affine").shadows == {2: 0.5}
    assert [(event.action, event.by) for event in History(store, "affine").events()] == [("shadow", "watch")]
    assert said[-1] == "affine version 2 joins the shadows with 0.5"
    assert look(made) == []


def test_one_that_was_retired_stays_away_until_its_files_change(
    newcomers: tuple[Newcomers, Store, list[str]], tmp_path: Path
) -> None:
    made, store, said = newcomers
    shutil.copytree(store.root / "affine" / "1", store.root / "affine" / "2")
    assert look(made) == [("affine", 2)]
    path = tmp_path / "serve_config.yaml"
    carry_out(plan_retire(path, "affine", 2, Author("operator", "it was no better")), None, 1.0, said.append)
    assert look(made) == []
    assert look(Newcomers(path, f"http://127.0.0.1:{free_port()}", said.append)) == []
    assert not ServeConfig.read(path).model("affine").shadows
    shutil.copyfile(tmp_path / "affine.onnx", store.root / "affine" / "2" / "more.onnx")
    assert look(made) == [("affine", 2)]


def test_one_that_cannot_stand_in_changes_nothing(
    newcomers: tuple[Newcomers, Store, list[str]], tmp_path: Path
) -> None:
    made, store, said = newcomers
    before = (tmp_path / "serve_config.yaml").read_text()
    put(store, "affine", lookup(tmp_path / "lookup.onnx"), {"index": floats([1]).astype("int64")}, version=2)
    assert look(made) == []
    assert "affine version 2 does not join, and nothing has changed" in said[-1]
    assert (tmp_path / "serve_config.yaml").read_text() == before
    assert History(store, "affine").events() == []
