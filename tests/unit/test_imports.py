"""The direction of imports: deployments -> models, jobs -> models, and models alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {"deployments": {"deployments", "models"}, "jobs": {"jobs", "models"}, "models": {"models"}}
MODELS_NEVER = {"ray", "starlette", "fastapi", "uvicorn"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_in_one_direction(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert imported(path) & set(MAY_IMPORT) <= MAY_IMPORT[room], path


def test_models_never_import_the_web_or_ray() -> None:
    for path in (ROOT / "models").rglob("*.py"):
        assert not imported(path) & MODELS_NEVER, path


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("deployments.api", "ray"),
        ("deployments.preprocessor", "ray"),
        ("models.version", "tensorflow"),
        ("models.backends.onnx", "tensorflow"),
        ("models.backends.savedmodel", "keras"),
        ("deployments.app", "tensorflow"),
        ("deployments.app", "pandas"),
        ("deployments.app", "deltalake"),
        ("jobs.cli", "ray"),
        ("jobs.cli", "tensorflow"),
    ],
)
def test_what_is_not_needed_is_not_loaded(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; assert {unwanted!r} not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
