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
