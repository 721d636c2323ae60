"""Campaign files: those that ship load, and what cannot be run is refused with its key, value and remedy."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from moe_analysis.campaigns import results
from moe_analysis.campaigns.campaign import CampaignError
from moe_analysis.campaigns.files import campaign_of, is_campaign, read_campaign
from moe_analysis.campaigns.results import RESULTS_FOLDER
from moe_analysis.campaigns.table import read_rows
from moe_analysis.commands import results as commands
from tests.campaigns.made_up_campaigns import sections_of, written
from tests.commands.calls import call, document

CAMPAIGNS = sorted((Path(__file__).parents[2] / "campaigns").glob("*.yaml"))
TABLE_2 = ("ARC-Challenge", "ARC-Easy", "commonsense_qa", "openbookqa", "winogrande")
MULTITASK = yaml.safe_load((CAMPAIGNS[0].parent / "smollm2_multitask.yaml").read_text("utf-8"))["base"]["datasets"]


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets of the right names, where suites are looked for."""
    for suite, names in {"smore_table2": TABLE_2, "multitask": MULTITASK, "bbh": ["snarks"]}.items():
        (tmp_path / suite).mkdir()
        for name in names:
            row = {"dataset": name, "group": "qa", "choices": ["a", "b"], "answer": "a", "label": 0}
            lines = [json.dumps({**row, "split": split, "prompt": f"{split}?"}) for split in ("train", "test")]
            (tmp_path / suite / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("MOE_ANALYSIS_DATA", str(tmp_path))


@pytest.mark.parametrize("path", CAMPAIGNS, ids=lambda path: path.stem)
def test_a_campaign_that_ships_loads(path: Path, suites) -> None:
    campaign = read_campaign(path)
    assert is_campaign(path) and campaign.study == path.stem


def test_a_table_is_shown_with_its_campaign_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "of_campaign", lambda path, rows: ({}, [str(path), str(len(rows))]))
    (path, count) = document(call("results", "show", "compact", "--json").stdout)["notes"]
    assert Path(path) == CAMPAIGNS[0].parent / "compact.yaml" and int(count) > 90


def test_a_table_is_shown_without_the_data_that_it_was_measured_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_DATA", str(tmp_path))
    shown = document(call("results", "show", "smollm2_multitask", "--json").stdout)
    assert len(shown["tuning"]) == 60 and sum(row["chosen"] for row in shown["tuning"]) == 5
    means = {row["system"]: row for row in shown["final_runs"]}
    assert means["T-REX"]["seeds"] == 3 and {"in distribution", "transfer"} <= means["base model"].keys()
    assert not any("not shown" in note for note in shown["notes"])


def test_a_table_that_does_not_tell_roles_is_shown_without_endpoints_where_its_data_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_DATA", str(tmp_path))
    older = [{**row, "roles": [""] * len(row["roles"])} for row in results.known_rows("smollm2_commonsense")]
    monkeypatch.setattr(results, "known_rows", lambda *_: older)
    shown = document(call("results", "show", "smollm2_commonsense", "--json").stdout)
    assert {row["system"]: row["seeds"] for row in shown["final_runs"]} == dict.fromkeys(
        ("LoRA", "HydraLoRA (4)", "MixLoRA (8)", "S'MoRE (4-4)"), 3
    )
    (told,) = shown["notes"]
    assert "tuning and endpoints are not shown: suite 'smore_table2' is neither a folder nor a known name" in told
    campaign = str(CAMPAIGNS[0].parent / "smollm2_commonsense.yaml")
    refused = call("results", "show", "smollm2_commonsense", "--campaign", campaign)
    assert refused.exit_code == 2 and "smore_table2" in refused.stderr


@pytest.mark.parametrize("table", sorted(RESULTS_FOLDER.glob("*.parquet")), ids=lambda path: path.stem)
def test_what_ships_says_how_far_its_campaign_went(table: Path) -> None:
    stages = Counter(row["stage"] for row in read_rows(table))
    lines = (RESULTS_FOLDER.parent / "README.md").read_text("utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"| `{table.name}`")]
    told = dict(map(reversed, re.findall(r"(\d+) (tuning|final) runs", line)))
    assert told == {{"tune": "tuning"}.get(stage, stage): str(n) for stage, n in stages.items() if stage != "base"}
    assert f"campaigns/{table.stem}.yaml" in line


@pytest.mark.parametrize("path", CAMPAIGNS, ids=lambda path: path.stem)
def test_every_system_has_the_same_trials_and_a_prefix_of_the_finals_is_balanced(path: Path, suites) -> None:
    campaign = read_campaign(path)
    labels = list(campaign.systems)
    tuning = [config.name for config in campaign.tuning_configs()]
    final = [config.name for config in campaign.final_configs({label: campaign.cells()[0] for label in labels})]
    for names in (tuning, final):
        assert all(names[start : start + len(labels)] == labels for start in range(0, len(names), len(labels)))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"studdy": "x"}, "studdy is unknown; use study"),
        ({"base__learning_rate": 1.0}, "base: learning_rate is not a field of a TrainConfig"),
        ({"base__seed": 1}, "base: seed is set by the campaign itself"),
        ({"tune__gird": {}}, "tune: gird is unknown; use grid"),
        ({"tune__grid": {}}, "tune: grid is empty"),
        ({"tune__grid": {"lr": []}}, "tune: grid: lr is an empty list"),
        ({"tune__grid": {"lr": [0.1, -1]}}, "tune: grid: lr has -1; write positive numbers"),
        ({"tune__grid": {"router_multiplier": [1]}}, "router_multiplier is a multiple of lr; give lr"),
        ({"tune__grid": {"lr": [0.1], "lr_multiplier": [1]}}, "lr and lr_multiplier set the same rate"),
        (
            {"tune__grid": {"lr": [0.1], "router_lr": [0.1], "router_multiplier": [1]}},
            "router_lr and router_multiplier set the same rate",
        ),
        ({"tune__seeds": [0, 100]}, "tune: seeds has 0, which is also in final"),
        ({"tune__holdout_rows": 0}, "tune: holdout_rows = 0 must be at least 1"),
        ({"tune__holdout_rows": None}, "tune: holdout_rows is missing; add it"),
        ({"tune__choose_by": "test"}, "tune: choose_by = 'test' is unknown; choose one of accuracy"),
        ({"tune__changes": {"transfer_suites": ["embedded"]}}, "transfer_suites = .* are test rows"),
        ({"tune__changes": {"holdout_rows": 1}}, "tune: changes: holdout_rows is set by the campaign itself"),
        ({"final__seeds": []}, "final: seeds is an empty list"),
        ({"final__seeds": [1, 1]}, "final: seeds has 1 twice"),
        ({"final__seeds": [0, -1]}, "final: seeds: seed = -1 must be from 0 to 4294967295"),
        ({"tune__seeds": [2**32]}, "tune: seeds: seed = 4294967296 must be from 0 to 4294967295"),
        ({"final": None}, "final is missing; add it"),
        ({"systems": {}}, "no system is given"),
        ({"systems__LoRA": 3}, "systems: LoRA = 3 is not a mapping"),
        ({"systems__a/b": {}}, "has '/' in it and becomes a part of a file's name"),
        ({"systems__LoRA__adapter__rank": 4}, "LoRA: adapter.rank is not a field of LORA"),
        ({"recipes": ["LaRA"]}, "recipes: 'LaRA' is not a recipe"),
        ({"comparison": {"systems": ["LaRA"]}}, "comparison: label = 'LaRA' is unknown"),
        ({"comparison": {"systems": ["LoRA"], "trainable": 0}}, "comparison: LoRA: trainable = 0 must be at least 1"),
        ({"endpoints": None}, "endpoints is missing; add it"),
        ({"endpoints__mesure": "accuracy"}, "endpoints: mesure is unknown; use parts"),
        ({"endpoints__measure": "loss"}, "endpoints: measure = 'loss' is unknown"),
        ({"endpoints__parts": {}}, "endpoints: parts is empty"),
        ({"endpoints__parts": {"a": {"rol": "task"}}}, "parts: a = .* is not a part; give one of role"),
        ({"endpoints__parts": {"a": {"role": "variant"}}}, "has role = 'variant'; there are task"),
        ({"endpoints__parts": {"a": {"datasets": ["sing"]}}}, "parts: a: 'sing' is not a data set"),
        (
            {"endpoints__parts": {"a": {"datasets": "say"}}},
            r"parts: a: datasets = 'say' is str; it must be list\[str\]",
        ),
        ({"endpoints__parts": {"a": {"datasets": 5}}}, "parts: a: datasets = 5 is int; it must be"),
        (
            {"endpoints__parts": {"a": {"datasets": ["say", 5]}}},
            r"parts: a: datasets = \['say', 5\] is list; it must be",
        ),
        ({"endpoints__parts": {"a": {"datasets": []}}}, "parts: a: datasets is an empty list"),
        ({"endpoints__parts": {"a": {"datasets": ["say", "say"]}}}, "parts: a: datasets has 'say' twice"),
        ({"endpoints__parts": {"a": {"role": ["task"]}}}, r"parts: a: role = \['task'\] is list; it must be str"),
        ({"endpoints__parts": {"a": {"suite": "embedded"}}}, "suite = 'embedded' is not a suite that the final runs"),
        ({"endpoints__parts": {"a": {"role": "task"}, "b": {"datasets": ["say"]}}}, "say is in a and in b"),
        ({"endpoints__references": ["LoRA"]}, "references work only together with floor or ceiling"),
        ({"endpoints__floor": 0.1}, "references work only together with floor or ceiling"),
        ({"endpoints__floor": 0.0, "endpoints__ceiling": 1.0}, "references work only together with floor or ceiling"),
        ({"endpoints__references": ["LoRA"], "endpoints__floor": 1.0}, "floor = 1.0, ceiling = 1.0; give shares"),
    ],
)
def test_what_cannot_be_run_is_refused_with_key_and_remedy(
    changes: dict[str, Any], told: str, backbone: str, suite: str
) -> None:
    with pytest.raises(ValueError, match=told):
        campaign_of(sections_of(backbone, suite, **changes))


@pytest.mark.parametrize("bounds", [{"floor": 0.0, "ceiling": 1.0}, {"floor": 0}, {"ceiling": 1}])
def test_the_widest_bounds_are_a_rule_too(bounds: dict[str, float], backbone: str, suite: str) -> None:
    given = {"references": ["LoRA"], "parts": {"all": {"role": "task"}}, **bounds}
    assert campaign_of(sections_of(backbone, suite, endpoints=given)).endpoints.bounds == (0.0, 1.0)


def test_the_same_system_under_two_names_is_refused(backbone: str, suite: str) -> None:
    sections = sections_of(backbone, suite)
    sections["systems"]["also LoRA"] = sections["systems"]["LoRA"]
    with pytest.raises(CampaignError, match="also LoRA is the same as LoRA; remove one of them"):
        campaign_of(sections)


def test_a_file_that_is_none_is_named(tmp_path: Path, backbone: str, suite: str) -> None:
    path = written(sections_of(backbone, suite, tune__gird={}), tmp_path / "mine.yaml")
    for bad, told in ((tmp_path / "none.yaml", "none.yaml cannot be read"), (path, "mine.yaml: tune: gird is unknown")):
        with pytest.raises(CampaignError, match=told):
            read_campaign(bad)
    path.write_text("study: [")
    with pytest.raises(CampaignError, match="mine.yaml is not valid YAML"):
        read_campaign(path)


def test_a_rate_is_a_multiple_of_the_systems_own(backbone: str, suite: str) -> None:
    grid = {"lr_multiplier": [0.5, 2], "router_multiplier": [0.1]}
    sections = sections_of(backbone, suite, tune__grid=grid)
    sections["systems"]["LoRA"]["lr"], sections["base"]["lr"] = 0.2, 0.004
    configs = campaign_of(sections).tuning_configs()
    assert [(one.name, one.lr, one.router_lr) for one in configs] == [
        ("LoRA", 0.1, pytest.approx(0.01)),
        ("MixLoRA", 0.002, pytest.approx(0.0002)),
        ("LoRA", 0.4, pytest.approx(0.04)),
        ("MixLoRA", 0.008, pytest.approx(0.0008)),
    ]


def test_a_folder_of_tables_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused = call("results", "--results", str(tmp_path / "nowhere"))
    assert refused.exit_code == 2 and "nowhere" in refused.stderr and "not a folder" in refused.stderr
    assert call("results", "--results", str(tmp_path)).exit_code == 0, "an empty one is there"
