"""The layers and doors hold, and the contracts that say so are not vacuous."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import audit.model

REPOSITORY = Path(__file__).resolve().parent.parent

LAYERS = "Stages meet only in the model"
PURE = "The model and the pure stages touch no outside system"
DOORS = "Each outside system has one door"


def _lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    # The working directory comes first on lint-imports' path: a copy there is what it reads.
    return subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(
        REPOSITORY / "audit", tmp_path / "audit", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_are_kept() -> None:
    done = _lint_imports(REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("report", "audit.store", LAYERS),
        ("report", "audit.commands", LAYERS),
        ("fanout", "audit.trace", LAYERS),
        ("trace", "audit.replay", LAYERS),
        ("facts", "audit.cover", LAYERS),
        ("flows", "audit.cover", LAYERS),
        ("model", "audit.scope", LAYERS),
        ("store", "audit.cli", LAYERS),
        ("policy", "audit.facts", LAYERS),
        ("policy", "subprocess", PURE),
        ("verdict", "subprocess", PURE),
        ("compare", "pyarrow", PURE),
        ("compare", "audit.store", LAYERS),
        ("cover", "ray", PURE),
        ("scope", "audit.cover", LAYERS),
        ("tracing", "audit.commands", LAYERS),
        ("model", "pyarrow", PURE),
        ("fanout", "ray", DOORS),
        ("facts", "subprocess", DOORS),
        ("report", "pyarrow", DOORS),
        ("store", "jinja2", DOORS),
        ("store", "cryptography", DOORS),
        ("report", "rich", DOORS),
        ("verdict", "yaml", DOORS),
        ("cli", "kubernetes", DOORS),
        ("facts", "kubernetes", DOORS),
        ("facts", "websocket", DOORS),
        ("commands", "waitress", DOORS),
    ],
)
def test_a_planted_import_breaks_its_contract(
    copy: Path, module: str, imported: str, contract: str
) -> None:
    (copy / "audit" / module / "planted.py").write_text(f"import {imported}\n")
    done = _lint_imports(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = done.stdout.partition("Broken contracts")[2]
    assert contract in broken
    assert f"audit.{module}.planted -> {imported}" in broken


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("store.schema", "audit.store.reader", "Within the store"),
        ("report.printing", "audit.report.view", "Within the report"),
        ("tracing.pods", "audit.tracing.follow", "Within tracing"),
    ],
)
def test_a_floor_within_a_room_uses_none_above(
    copy: Path, module: str, imported: str, contract: str
) -> None:
    path = copy / "audit" / Path(*module.split(".")).with_suffix(".py")
    path.write_text(f"{path.read_text()}\nimport {imported}\n")
    done = _lint_imports(copy)
    assert done.returncode == 1
    broken = done.stdout.partition("Broken contracts")[2]
    assert contract in broken
    assert f"audit.{module} -> {imported}" in broken


def test_a_planted_import_inside_a_function_is_seen(copy: Path) -> None:
    (copy / "audit" / "report" / "planted.py").write_text("def f():\n    import duckdb\n")
    assert "audit.report.planted -> duckdb" in _lint_imports(copy).stdout


def test_a_module_without_a_place_breaks_the_layers(copy: Path) -> None:
    (copy / "audit" / "utils.py").write_text("")
    done = _lint_imports(copy)
    assert done.returncode == 1
    broken = done.stdout.partition("Broken contracts")[2]
    assert LAYERS in broken
    assert "utils" in broken


def test_the_model_imports_only_the_standard_library_and_numpy() -> None:
    allowed = sys.stdlib_module_names | {"audit", "numpy"}
    for path in sorted((REPOSITORY / "audit" / "model").glob("**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    imported = {alias.name.partition(".")[0] for alias in names}
                case ast.ImportFrom(module=str(module), level=0):
                    imported = {module.partition(".")[0]}
                case _:
                    continue
            assert imported <= allowed, f"{path.name}:{node.lineno}"


def _model_dataclasses() -> Iterator[type]:
    for info in pkgutil.walk_packages(audit.model.__path__, "audit.model."):
        module = importlib.import_module(info.name)
        for _, value in inspect.getmembers(module, inspect.isclass):
            if value.__module__ == info.name and dataclasses.is_dataclass(value):
                yield value


@pytest.mark.parametrize("value", list(_model_dataclasses()), ids=lambda value: value.__name__)
def test_a_model_value_is_frozen_slotted_and_keyword_only(value: type) -> None:
    # What @dataclass was given; typeshed does not declare it.
    parameters = vars(value)["__dataclass_params__"]
    assert parameters.frozen
    assert "__slots__" in vars(value)
    assert all(field.kw_only for field in dataclasses.fields(value))
