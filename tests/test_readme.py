"""The README keeps its word: its first example runs, its configuration is valid, its links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import peft
import torch

import moe_analysis as ma
from moe_analysis.training.grid import read_grid

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_first_example_runs_as_it_stands() -> None:
    names: dict = {}
    exec(compile(BLOCKS[0], "README.md", "exec"), names)
    assert names["scores"].shape == (200, 32)
    assert torch.isfinite(names["output"].loss)
    assert any(parameter.grad is not None for parameter in names["model"].parameters())


def test_the_run_of_the_second_example_is_valid_and_has_what_it_names() -> None:
    call = next(node for node in ast.walk(ast.parse(BLOCKS[1])) if isinstance(node, ast.Call))
    config = eval(compile(ast.Expression(call.args[0]), "README.md", "eval"), {"ma": ma})
    config.check()
    named = re.findall(r"^run\.(\w+)", BLOCKS[1], flags=re.MULTILINE)
    assert named and all(hasattr(ma.Run, name) for name in named)


def test_the_optimizer_example_runs_as_it_stands() -> None:
    names: dict = {"ma": ma, "peft": peft}
    exec(compile(BLOCKS[2], "README.md", "exec"), names)
    assert {group["name"] for group in names["optimizer"].param_groups} == {"experts", "router"}


def test_the_grid_of_the_readme_makes_twelve_runs(tmp_path: Path) -> None:
    (grid := tmp_path / "grid.yaml").write_text(re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)[0])
    configs = read_grid(grid).configs
    assert len({config.run_name for config in configs}) == 2 * 2 * 3
    assert {config.adapter.r for config in configs} == {2, 4}


def test_the_example_of_equal_budgets_runs_as_it_stands() -> None:
    names: dict = {"ma": ma}
    exec(compile(BLOCKS[3], "README.md", "exec"), names)
    assert len(names["nine"]) == 9 and names["config"].r


def test_every_file_that_is_named_exists() -> None:
    paths = re.findall(r"`((?:tests|data|figures|moe_analysis|notebooks)/[\w./]+?)`", TEXT)
    paths += re.findall(r"\]\(([\w./]+\.png)\)", TEXT)
    assert paths and all((ROOT / path).exists() for path in paths)


def test_every_notebook_of_the_table_exists() -> None:
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(re.findall(r"`(\d\d_\w+)`", TEXT))
