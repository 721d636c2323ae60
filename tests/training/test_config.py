from __future__ import annotations

import json
import pickle
from typing import Literal

import pytest
from peft import LoraConfig, PeftType

import moe_analysis as ma
from moe_analysis.comparison import LABELS, gate_series
from moe_analysis.presets import recipes
from moe_analysis.training.files import fits
from moe_analysis.training.sweep.grid import expand
from moe_analysis.training.sweep.running import sweep
from moe_analysis.training.sweep.work import FAILED, attempt


@pytest.mark.parametrize(
    "adapter",
    [
        ma.TRexConfig(num_down=2, num_up=3, target_modules=["v_proj", "q_proj"]),
        ma.MoeLoraConfig(gate="switch", top_k=2, target_modules="all-linear"),
        ma.SiraConfig(),
        LoraConfig(r=3, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    ],
)
def test_a_configuration_survives_json_and_pickle(adapter) -> None:
    config = ma.TrainConfig(adapter=adapter, seed=3, router_lr=1e-4)
    read = ma.TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert read.to_dict() == config.to_dict() and type(read.adapter) is type(adapter)
    assert read.digest == config.digest == pickle.loads(pickle.dumps(config)).digest


def test_the_digest_follows_every_choice_but_the_name() -> None:
    base = ma.TrainConfig(adapter=ma.TRexConfig())
    assert base.digest == ma.TrainConfig(adapter=ma.TRexConfig(), name="mine").digest
    others = [
        ma.TrainConfig(adapter=ma.TRexConfig(), seed=1),
        ma.TrainConfig(adapter=ma.TRexConfig(router_coef=16.0)),
        ma.TrainConfig(adapter=ma.SiraConfig()),
        ma.TrainConfig(adapter=ma.TRexConfig(), lr=1e-3),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 5


def test_the_names_of_runs_with_listed_options_are_those_from_before_there_were_other_forms() -> None:
    assert ma.TrainConfig().digest == ma.TrainConfig(prompt_form="options").digest == "8e23159047"
    assert ma.TrainConfig(adapter=ma.TRexConfig(target_modules=["q_proj"]), seed=3).digest == "b7c9e47db9"
    assert ma.TrainConfig(backbone="some/model", prompt_form="options").digest == "e1dae354c5"


def test_a_form_makes_another_run_whether_it_is_said_or_the_default() -> None:
    default, said, other = (
        ma.TrainConfig(backbone="some/model", prompt_form=form) for form in (None, "cloze", "instruction")
    )
    assert default.digest == said.digest != other.digest
    assert len({ma.TrainConfig(prompt_form=form).digest for form in ("options", "cloze", "instruction")}) == 3


def test_the_order_of_target_modules_does_not_matter() -> None:
    first, second = (ma.TrainConfig(adapter=ma.TRexConfig(target_modules=names)) for names in (["q", "v"], ["v", "q"]))
    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("optimizer", "adagrad"),
        ("schedule", "step"),
        ("precision", "fp8"),
        ("eval_every", -1),
        ("record_every", -1),
        ("max_length", 2),
        ("rows_per_dataset", 0),
        ("adapter", None),
        ("lr", float("nan")),
        ("prompt_form", "closed"),
    ],
)
def test_a_value_that_cannot_be_run_is_named_with_its_field(field: str, value) -> None:
    with pytest.raises(ValueError, match=f"{field} = "):
        ma.TrainConfig(**{field: value}).check()


def test_unknown_fields_and_missing_peft_type_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown fields \['stepz'\]"):
        ma.TrainConfig.from_dict({"stepz": 3})
    with pytest.raises(ValueError, match="peft_type"):
        ma.TrainConfig.from_dict({"adapter": {"num_down": 2}})


@pytest.mark.parametrize("name", ["S'MoRE 2/2", "../elsewhere", ".hidden", "", "n" * 300, "a\tb", "nul"])
def test_a_name_that_is_no_files_is_refused_before_anything_is_written(name: str, config, tmp_path) -> None:
    mine = config(name=name)
    ways = (
        lambda: ma.train(mine, tmp_path / "runs"),
        lambda: sweep([mine], tmp_path / "runs"),
        lambda: expand({"list": [{"name": name}]}),
    )
    for way in ways:
        with pytest.raises(ValueError, match="name = .*use letters, digits, spaces inside"):
            way()
    outcome = attempt(mine, tmp_path / "runs")  # as a process of somebody's executor would be told to
    assert outcome.state == FAILED and "use letters, digits" in outcome.error
    assert list(tmp_path.rglob("*")) == []


def test_every_name_of_the_papers_methods_makes_a_folder(config) -> None:
    for name in [*recipes(), *LABELS, *gate_series()]:
        config(name=name).check()


@pytest.mark.parametrize("source", ["s" * 300, "line\nbreak", "/data/" + "é" * 200, "..", "."])
def test_a_suite_of_any_name_makes_a_folder_that_a_disk_takes(source: str, config, tmp_path) -> None:
    folder = tmp_path / config(suite=source, name="n" * 100, seed=2**32 - 1).run_name
    folder.with_name(f".deleted-{folder.name}-{2**22}").mkdir()
    assert folder.parent == tmp_path and folder.name.isprintable()


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (1, int, True),
        (True, int, False),
        (1.5, int, False),
        (1, float, True),
        (True, float, False),
        (10**400, float, False),
        (["q_proj"], list[str], True),
        (("q_proj",), list[str], True),  # a caller's tuple
        ({"q_proj"}, list[str], True),  # what PEFT makes of a list
        ([1], list[str], False),
        ([1, 2], tuple[int, ...], True),  # JSON knows no tuples
        ("LORA", PeftType, True),  # nor enums
        (PeftType.LORA, PeftType, True),
        (None, int | None, True),
        ("b", Literal["a"], False),
        ({"r": 1}, LoraConfig, True),
        (LoraConfig(), LoraConfig, True),
    ],
)
def test_a_value_may_come_from_json_or_from_python(value, hint, right: bool) -> None:
    assert fits(value, hint) == right
