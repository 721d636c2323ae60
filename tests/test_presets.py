from __future__ import annotations

import pytest

from moe_analysis.presets import PRESETS, methods, optimizer_methods, preset, recipes


def test_the_environment_chooses_preset_suite_and_folder(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_PRESET", "tiny")
    monkeypatch.setenv("MOE_ANALYSIS_SUITE", "multitask")
    monkeypatch.setenv("MOE_ANALYSIS_RUNS", str(tmp_path))
    chosen = preset()
    assert (chosen.name, chosen.suite, chosen.runs) == ("tiny", "multitask", tmp_path)
    assert preset("full").steps == PRESETS["full"].steps
    with pytest.raises(ValueError, match="preset = 'huge' is unknown; choose one of tiny, quick, long, full"):
        preset("huge")


def test_the_environment_chooses_the_number_of_seeds_for_every_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_SEEDS", "4")
    assert preset("tiny").seeds == preset("quick").sized("comparison").seeds == (0, 1, 2, 3)
    for wrong in ("0", "-1", "many", "2.5"):
        monkeypatch.setenv("MOE_ANALYSIS_SEEDS", wrong)
        with pytest.raises(ValueError, match=f"MOE_ANALYSIS_SEEDS = '{wrong}' must be a whole number above zero"):
            preset("tiny")


def test_methods_of_a_comparison_differ_in_nothing_but_their_adapter() -> None:
    configs = [preset("quick").config(name, seed=1).to_dict() for name in methods()]
    shared = [{key: value for key, value in config.items() if key not in ("adapter", "name")} for config in configs]
    assert all(values == shared[0] for values in shared)
    assert len({config["name"] for config in configs}) == len(methods())
    with pytest.raises(ValueError, match="method = 'GaLore' is unknown; choose one of LoRA, LoRA-MoE.*gRAdamW"):
        preset("quick").config("GaLore", seed=0)


def test_the_eight_optimizers_differ_in_the_metric_the_gate_and_the_learning_rate_alone() -> None:
    configs = {name: preset("quick").config(name, seed=0) for name in optimizer_methods()}
    assert list(configs) == ["SGD", "RSGD", "gSGD", "gRSGD", "AdamW", "RAdamW", "gAdamW", "gRAdamW"]
    for name, config in configs.items():
        assert config.adapter.gate_backward_power == (0.5 if name.startswith("g") else 1.0)
        assert config.optimizer_options["precondition"] == ("R" in name)
        assert config.optimizer == ("riemannian_sgd" if name.endswith("SGD") else "riemannian_adamw")
    plain, metric = configs["SGD"], configs["RSGD"]
    changed = {key for key, value in plain.to_dict().items() if value != metric.to_dict()[key]}
    assert changed == {"lr", "optimizer_options", "name"}
    assert configs["RSGD"].lr == configs["gRSGD"].lr and configs["SGD"].lr == configs["gSGD"].lr


def test_a_study_changes_sizes_only() -> None:
    sized = preset("quick").sized("optimizers")
    assert sized.steps < preset("quick").steps and sized.suite == preset("quick").suite
    with pytest.raises(ValueError, match="study = 'ranks' is unknown; choose one of optimizers"):
        preset("quick").sized("ranks")


def test_every_preset_gives_valid_configurations() -> None:
    for settings in PRESETS.values():
        for name in recipes():
            settings.sized("optimizers").config(name, settings.seeds[0]).check()
            settings.config(name, settings.seeds[0]).check()


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("LoRA", {"r": 3}),
        ("LoRA-MoE", {"num_experts": 3}),
        ("SiRA", {"num_experts": 9}),
        ("T-REX", {"num_up": 5}),
        ("gRAdamW", {"top_k": 3}),
        ("S'MoRE", {"fanout": [1, 2]}),
    ],
)
def test_a_field_of_the_adapter_is_changed_by_its_name_beside_one_of_the_run(method: str, change: dict) -> None:
    config = preset("tiny").config(method, seed=1, steps=9, **change)
    usual = preset("tiny").config(method, seed=1)
    ((name, value),) = change.items()
    assert getattr(config.adapter, name) == value != getattr(usual.adapter, name) and config.steps == 9
    before, after = usual.adapter.to_dict(), config.adapter.to_dict()
    assert {key for key in before if before[key] != after[key]} == {name}
    assert preset("tiny").config(method, seed=1).adapter.to_dict() == before
    config.check()


@pytest.mark.parametrize(
    ("asked", "changes", "message"),
    [
        (["T-REX"], {"num_upp": 4}, "num_upp = 4 is not a field of TrainConfig nor of TRexConfig; did you mean num_up"),
        (["LoRA"], {"num_up": 4}, "num_up = 4 is not a field of TrainConfig nor of LoraConfig; "),
        (["T-REX"], {"step": 4}, "step = 4 is not a field of .*did you mean steps"),
        (["T-rex"], {}, "method = 'T-rex' is unknown; choose one of LoRA"),
        ([["T-REX", "LoRA"]], {}, r"names = .*are not names of methods; pass them as separate arguments: train\("),
        ([], {}, r"names = \(\) are not names of methods"),
    ],
)
def test_what_train_cannot_do_is_refused_by_name_before_anything_is_trained(
    asked: list, changes: dict, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_RUNS", str(tmp_path))
    with pytest.raises(ValueError, match=message) as refused:
        preset("tiny").train(*asked, **changes)
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


def test_adapters_without_a_label_are_refused_with_the_way_to_give_one() -> None:
    with pytest.raises(ValueError, match="adapters is a LoraConfig; give each adapter a label"):
        preset("tiny").train_adapters(methods()["LoRA"])
