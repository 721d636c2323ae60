from __future__ import annotations

import json
import pickle
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, LoraConfig, PeftType, PromptTuningConfig

import moe_analysis as ma
from moe_analysis.comparison import LABELS, gate_series
from moe_analysis.optim import trial
from moe_analysis.presets import recipes
from moe_analysis.training.files import fits
from moe_analysis.training.sweep.grid import expand
from moe_analysis.training.sweep.running import sweep
from moe_analysis.training.sweep.work import FAILED, attempt
from moe_analysis.training.values import check_read_back

NAN, INFINITE = float("nan"), float("inf")


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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"datasets": "say"}, r"datasets = 'say' is str; it must be list\[str\] or None"),
        ({"transfer_suites": "embedded"}, "transfer_suites = 'embedded' is str; it must be"),
        ({"suite": pd.DataFrame({"prompt": ["?"]})}, "(?s)suite = .* is DataFrame; it must be str"),
        ({"warmup_steps": 0.1}, "warmup_steps = 0.1 is float; it must be int"),
        ({"record_every": 2.0}, "record_every = 2.0 is float; it must be int"),
        ({"steps": True}, "steps = True is bool; it must be int"),
        ({"steps": "6"}, "steps = '6' is str; it must be int"),
        ({"steps": 10**20}, "steps = 10{20} must be at most 9223372036854775807"),
        ({"lr": "fast"}, "lr = 'fast' is str; it must be float"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing = 1 is int; it must be bool"),
        ({"seed": -1}, "seed = -1 must be from 0 to 4294967295"),
        ({"seed": 2**32}, "seed = 4294967296 must be from 0 to 4294967295"),
        ({"lr": INFINITE}, "lr = inf must be a finite number"),
        ({"router_lr": NAN}, "router_lr = nan must be a finite number"),
        ({"weight_decay": NAN}, "weight_decay = nan must be a finite number"),
        ({"adapter": LoraConfig(lora_alpha=NAN)}, "adapter.lora_alpha = nan must be a finite number"),
        ({"adapter": LoraConfig(lora_alpha="8")}, "adapter.lora_alpha = '8' is str; it must be float"),
        ({"adapter": LoraConfig(rank_pattern={"q": len})}, "adapter.rank_pattern.q = .* cannot be written as JSON"),
        ({"adapter": PromptTuningConfig(num_virtual_tokens=4)}, "adapter = 'prompt_tuning' trains tokens before"),
        ({"optimizer_options": None}, "optimizer_options = None is NoneType; it must be dict"),
        ({"optimizer_options": {"eps": NAN}}, "optimizer_options.eps = nan must be a finite number"),
        ({"optimizer_options": {"betas": 2}}, "optimizer_options.betas = 2 is int; it must be tuple"),
        ({"optimizer_options": {"betas": [0.9]}}, r"optimizer_options.betas = \[0.9\] is list; it must be tuple"),
        ({"optimizer_options": {"betas": [0.9, 2.0]}}, "cannot be used with adamw: .*index 1: 2.0; correct them"),
        ({"optimizer": "sgd", "optimizer_options": {"momentum": "x"}}, "optimizer_options.momentum = 'x' is str"),
        ({"optimizer": "sgd", "optimizer_options": {"momentum": -1}}, "cannot be used with sgd: .*momentum"),
        ({"optimizer": "riemannian_adamw", "optimizer_options": {"damping": 0}}, "damping = 0 must be positive"),
        ({"optimizer": "riemannian_adamw", "optimizer_options": {"betas": [0, 1]}}, r"betas = \[0, 1\] must be in"),
    ],
)
def test_a_value_with_which_a_run_could_not_be_opened_or_would_be_no_number_is_refused_before_it_begins(
    changes: dict[str, Any], told: str, config, out: Path
) -> None:
    for way in (ma.train, lambda wrong, folder: sweep([config(), wrong], folder)):
        with pytest.raises(ValueError, match=told):
            way(config(**changes), out)
    assert not out.exists()


def test_numbers_of_numpys_and_paths_make_the_run_of_plain_ones() -> None:
    plain = {"suite": "/data/mine", "datasets": ["b", "a"], "seed": 3, "lr": 0.5, "gradient_checkpointing": True}
    foreign = {
        "suite": PurePosixPath("/data/mine"),
        "datasets": np.array(["b", "a"]),
        "seed": np.int64(3),
        "lr": np.float32(0.5),
        "gradient_checkpointing": np.bool_(True),
    }
    pairs = [
        (plain, foreign),
        ({"datasets": ["a", "b"]}, {"datasets": {"b", "a"}}),
        ({"optimizer_options": {"betas": [0.5, 0.75]}}, {"optimizer_options": {"betas": (np.float32(0.5), 0.75)}}),
        (
            {"adapter": LoraConfig(r=3, rank_pattern={"q": 2}, target_modules=["q", "v"])},
            {"adapter": LoraConfig(r=np.int8(3), rank_pattern={"q": np.int64(2)}, target_modules=np.array(["v", "q"]))},
        ),
    ]
    for values, given in pairs:
        one, other = ma.TrainConfig(**values), ma.TrainConfig(**given)
        other.check()
        assert json.dumps(one.to_dict()) == json.dumps(other.to_dict()) and one.run_name == other.run_name
    assert type(other.adapter.r) is int


@pytest.mark.filterwarnings("ignore")  # of what a method of PEFT's lacks to be trained
def test_every_method_of_pefts_is_read_back_as_it_was_or_refused() -> None:
    refused = []
    for kind, method in PEFT_TYPE_TO_CONFIG_MAPPING.items():
        if not method.__module__.startswith("peft."):
            continue  # of another test
        adapter = method(task_type="CAUSAL_LM", **{"total_step": 5} if kind == PeftType.ADALORA else {})
        config = ma.TrainConfig(adapter=adapter)
        if adapter.is_prompt_learning:
            refused.append(kind)
            with pytest.raises(ValueError, match="trains tokens before the prompt"):
                config.check()
        else:
            config.check()
            assert ma.TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))).digest == config.digest
    assert PeftType.PROMPT_TUNING in refused and PeftType.LORA not in refused


def test_a_value_that_is_read_back_as_another_is_named() -> None:
    def read(values: dict[str, Any]) -> SimpleNamespace:
        return SimpleNamespace(to_dict=lambda: {**values, "lr": 2.0})

    check_read_back({"lr": 2.0, "steps": 1}, read)
    with pytest.raises(ValueError, match="lr = 1.0 would be read back as 2.0; pass that instead"):
        check_read_back({"lr": 1.0, "steps": 1}, read)


def test_a_check_uses_up_no_random_numbers() -> None:
    trial.smallest.cache_clear()
    before = torch.get_rng_state()
    ma.TrainConfig(optimizer="riemannian_sgd", optimizer_options={"damping": 1e-3}).check()
    assert torch.equal(torch.get_rng_state(), before)


def test_limits_that_limit_nothing_and_options_of_any_form_are_right() -> None:
    for values in (
        {"max_grad_norm": INFINITE, "router_max_grad_norm": INFINITE},
        {"lr": 1, "seed": 2**32 - 1, "steps": 2**63 - 1},
        {"optimizer_options": {"betas": (0.9, 0.95), "eps": 1e-6, "fused": None}},
        {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9, "nesterov": True}},
        {"optimizer": "riemannian_adamw", "optimizer_options": {"betas": [0, 0.5], "update": "sequential"}},
    ):
        ma.TrainConfig(**values).check()


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
        ([1, 2], tuple[int, int], True),
        ([1, 2, 3], tuple[int, int], False),
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
