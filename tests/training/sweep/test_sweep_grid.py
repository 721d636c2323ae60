from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig

import moe_analysis as ma
from moe_analysis.training.sweep.grid import GridError, expand, read_grid

TREX = {"peft_type": "trex", "num_down": 2, "num_up": 3, "target_modules": ["v_proj", "q_proj"]}
TEXT = """
base:
  steps: 20
  lr: 1e-3
  adapter: {peft_type: TREX, num_down: 2, num_up: 3, target_modules: [q_proj, v_proj]}
grid:
  adapter.router_coef: [1, 2.0]
seeds: [0, 1]
"""


def test_a_grid_takes_every_combination_and_seeds_run_fastest(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(TEXT)
    configs = read_grid(tmp_path / "grid.yaml").configs
    assert [(one.adapter.router_coef, one.seed) for one in configs] == [(1.0, 0), (1.0, 1), (2.0, 0), (2.0, 1)]
    assert all((one.steps, one.lr, type(one.adapter)) == (20, 1e-3, ma.TRexConfig) for one in configs)


def test_a_run_of_a_grid_is_the_one_that_python_would_name() -> None:
    trex = ma.TRexConfig(num_down=2, num_up=3, router_coef=2.0, target_modules=["q_proj", "v_proj"])
    written = expand({"base": {"adapter": TREX, "lr": 1}, "grid": {"adapter.router_coef": [2]}})
    assert [one.digest for one in written] == [ma.TrainConfig(adapter=trex, lr=1.0).digest]
    lora = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    assert expand({"base": {"adapter.r": 4}})[0].digest == ma.TrainConfig(adapter=lora).digest


def test_a_list_replaces_the_adapter_before_dotted_names_change_it() -> None:
    sections = {
        "base": {"adapter": TREX},
        "grid": {"adapter.r": [2, 4]},
        "list": [{"adapter": {"peft_type": "LORA"}, "name": "LoRA"}, {"adapter": {"peft_type": "MOELORA"}}],
    }
    configs = expand(sections)
    assert [(one.system, one.adapter.r) for one in configs] == [(s, r) for s in ("lora", "moelora") for r in (2, 4)]
    assert [one.name for one in configs] == ["LoRA", "LoRA", None, None]


@settings(max_examples=15, deadline=None)
@given(
    steps=st.lists(st.integers(1, 99), unique=True, max_size=3),
    lr=st.lists(st.floats(1e-6, 1), unique=True, max_size=3),
    damping=st.lists(st.sampled_from([1e-6, 1e-3]), unique=True, max_size=2),
    seeds=st.lists(st.integers(0, 9), unique=True, min_size=1, max_size=3),
)
def test_a_grid_has_as_many_different_runs_as_its_values_multiply_to(steps, lr, damping, seeds) -> None:
    axes = {"steps": steps, "lr": lr, "optimizer_options.damping": damping}
    sections = {"base": {"adapter": TREX, "optimizer": "riemannian_adamw"}, "seeds": seeds}
    if axes := {name: values for name, values in axes.items() if values}:
        sections["grid"] = axes
    configs = expand(yaml.safe_load(yaml.safe_dump(sections)))
    assert len({one.digest for one in configs}) == len(configs)
    assert len(configs) == max(1, len(steps)) * max(1, len(lr)) * max(1, len(damping)) * len(seeds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "is not a mapping; write sections from base, grid, list, seeds, slurm"),
        ("steps: 3", "section 'steps' is unknown.*fields of a run go below base"),
        ("base: {stepz: 3}", "base: stepz is not a field of a TrainConfig; it has backbone, "),
        ("grid: {stepz: [3]}", "grid: stepz is not a field"),
        ("list: [{lr: 0.1}, {lrr: 0.1}]", "list: entry 2: lrr is not a field"),
        ("base: {steps.x: 3}", "steps.x names a field inside steps, which only adapter and optimizer_options have"),
        ("grid: {}", "grid is empty; give a field and its values"),
        ("grid: {lr: []}", "grid: lr is an empty list"),
        ("grid: {lr: 0.1}", r"grid: lr = 0.1 is not a list; write \[0.1\]"),
        ("seeds: 3", r"seeds = 3 is not a list; write \[3\]"),
        ("grid: {lr: [0.1, 0.2, 0.1]}", "grid: lr has 0.1 twice"),
        ("list: [{lr: 0.1}, {lr: 0.1, seed: 0}]", "run lr = 0.1, seed = 0 is the same as run lr = 0.1"),
        ("base:\n  lr: 0.1\n  lr: 0.2", "line 3: lr appears twice; keep one of them"),
        ("grid: {seed: [1]}\nseeds: [1]", "seed is in grid or list, and seeds is set too"),
        ("grid: {lr: [0.1]}\nlist: [{lr: 0.2}]", "lr is in grid and in list entry 1"),
        ("list: [3]", "list: entry 1 is 3; write a mapping"),
        ("base: 3", "base = 3 is not a mapping"),
        ("base: {steps: '3'}", "steps = '3' is str; it must be int"),
        ("base: {gradient_checkpointing: 1}", "gradient_checkpointing = 1 is int; it must be bool"),
        ("base: {datasets: add_small}", "datasets = 'add_small' is str; it must be list.str. or None"),
        ("base: {steps: 0}", "steps = 0 must be at least 1"),
        ("base: {adapter: {r: 3}}", "adapter = {'r': 3} has no peft_type; add one of .*TREX"),
        ("base: {adapter: {peft_type: TRIX}}", "adapter.peft_type = 'TRIX' is unknown; use one of .*TREX"),
        ("base: {adapter: {peft_type: TREX, inference_mode: 1}}", "adapter.inference_mode is not a field that a run"),
        ("base: {adapter: {peft_type: TREX, ranks: 3}}", "adapter.ranks is not a field of TREX; it has .*num_down"),
        ("grid: {adapter.ranks: [3]}", "run adapter.ranks = 3: adapter.ranks is not a field of LORA"),
        ("base: {adapter: 3}", "adapter = 3 is not a mapping"),
        ("base: {adapter.r.x: 3}", "adapter.r.x is inside 8, which is not a mapping"),
        ("base: {lr: 0.1", "is not valid YAML(?s:.*)check the indents"),
    ],
)
def test_an_error_names_file_key_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    with pytest.raises(GridError, match=f"^{path}(?s:.*){message}"):
        read_grid(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="nowhere.yaml cannot be read .*; pass a YAML file"):
        read_grid(tmp_path / "nowhere.yaml")
