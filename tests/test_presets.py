from __future__ import annotations

import pytest

from moe_analysis.presets import PRESETS, methods, preset


def test_the_environment_chooses_preset_suite_and_folder(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_PRESET", "tiny")
    monkeypatch.setenv("MOE_ANALYSIS_SUITE", "multitask")
    monkeypatch.setenv("MOE_ANALYSIS_RUNS", str(tmp_path))
    chosen = preset()
    assert (chosen.name, chosen.suite, chosen.ood_suite, chosen.runs) == ("tiny", "multitask", "bbh", tmp_path)
    assert preset("full").steps == PRESETS["full"].steps
    with pytest.raises(ValueError, match="preset = 'huge' is unknown; choose one of tiny, quick, full"):
        preset("huge")


def test_methods_of_a_comparison_differ_in_nothing_but_their_adapter() -> None:
    configs = [preset("quick").config(name, seed=1).to_dict() for name in methods()]
    shared = [{key: value for key, value in config.items() if key not in ("adapter", "name")} for config in configs]
    assert all(values == shared[0] for values in shared)
    assert len({config["name"] for config in configs}) == len(methods())
    with pytest.raises(ValueError, match="method = 'GaLore' is unknown; choose one of LoRA, LoRA-MoE"):
        preset("quick").config("GaLore", seed=0)


def test_every_preset_gives_valid_configurations() -> None:
    for settings in PRESETS.values():
        for name in methods():
            settings.config(name, settings.seeds[0]).check()
