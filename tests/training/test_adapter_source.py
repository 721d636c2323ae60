"""A run with an adapter of a user's own is whole: it opens anywhere, executes nothing, and asks before it does."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import moe_analysis as ma
from moe_analysis.adapters import REGISTRY, own
from moe_analysis.run_comparison.tables import config_differences, dataset_scores, final_results
from moe_analysis.studies.router_paths.draw import trajectory_explorer
from moe_analysis.studies.router_paths.paths import path_axes, router_paths
from moe_analysis.training.adapter_source import KeptAdapter, execute_kept, keep_source, kept_source
from moe_analysis.training.files import RunError, state_of
from moe_analysis.training.recorders.routing import gates_of_runs
from moe_analysis.training.run_folder import list_runs, run_paths
from moe_analysis.training.transfer import evaluate_all, evaluate_on
from tests.commands.calls import call, document

from .own_runs import FILE, TRAINED, elsewhere

SHA256 = hashlib.sha256(FILE.encode()).hexdigest()


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch) -> None:
    monkeypatch.delenv(own.VARIABLE, raising=False)


@pytest.fixture(scope="module")
def trained(backbone: str, suite: str, tmp_path_factory) -> dict:
    """file, out, path (of the second run), logits: two runs that another process trained; the file is gone since."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "gated_lora.py").write_text(FILE)
    fields = {"backbone": backbone, "suite": suite, "steps": 3, "batch_size": 4, "eval_rows": 2, "warmup_steps": 0}
    given = {"file": str(folder / "gated_lora.py"), "out": str(folder / "runs"), "fields": fields}
    told = {**given, **elsewhere(TRAINED, **given)}
    (folder / "gated_lora.py").unlink()
    return told


@pytest.fixture
def path(trained, tmp_path: Path) -> Path:
    """A copy of one run, as somebody else gets it."""
    return Path(shutil.copytree(trained["path"], tmp_path / "runs" / Path(trained["path"]).name))


def change(path: Path, **values) -> None:
    config = json.loads((path / "config.json").read_text())
    config["adapter"] |= values
    (path / "config.json").write_text(json.dumps(config))


def refused(run: ma.Run, **options) -> str:
    with pytest.raises(RunError) as caught:
        run.model(**options)
    return str(caught.value)


# What the folder holds


def test_the_folder_keeps_the_file_and_its_digest(path: Path) -> None:
    assert (path / "adapter_source" / "gatedlora.py").read_text() == FILE
    assert kept_source(path, "gatedlora").sha256 == SHA256 and kept_source(path, "gatedlora").file == "gated_lora.py"


def test_runs_of_our_adapters_keep_none(config, out: Path) -> None:
    run = ma.train(config(steps=1, record_every=0), out)
    assert not (run.path / "adapter_source").exists() and kept_source(run.path, "moelora") is None
    assert isinstance(run.config.adapter, ma.MoeLoraConfig)


def test_a_source_is_kept_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(own.SOURCES, "mine", own.Source(Path("mine.py"), b"VALUE = 1\n"))
    monkeypatch.setitem(REGISTRY, "mine", type("Mine", (), {"__module__": "mine"}))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(json, "dumps", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        keep_source(tmp_path, "mine")
    assert kept_source(tmp_path, "mine") is None
    keep_source(tmp_path, "mine")
    assert kept_source(tmp_path, "mine").path.read_bytes() == b"VALUE = 1\n"
    assert [one.name for one in tmp_path.iterdir()] == ["adapter_source"]


# Opening it where nothing knows the adapter


def test_it_opens_without_the_class_and_executes_nothing(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EXECUTED", str(tmp_path / "executed"))
    before = set(sys.modules)
    run = ma.Run.load(path)
    assert run.finished and len(run.history) == 4 and set(run.evaluation["dataset"]) == {"choose", "say"}
    assert run.records["router_weight"].shape == (3, 2, 3, 16) and run.clusters is None
    assert (run.config.system, run.config.adapter.r, run.config.adapter.warmth) == ("gatedlora", 3, 2.0)
    assert list_runs(run_paths(path.parent))["state"].tolist() == ["finished"]
    assert not (tmp_path / "executed").exists() and "gatedlora" not in REGISTRY
    assert not [name for name in set(sys.modules) - before if "gated" in name]


def test_its_configuration_is_the_one_that_it_was_trained_with(path: Path) -> None:
    config = ma.Run.load(path).config
    assert config.run_name == path.name, "the same digest without the class"
    assert config.to_dict() == json.loads((path / "config.json").read_text())
    assert ma.Run.load(path).config == config
    for twin in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config and twin.digest == config.digest and twin.adapter.target_modules == ["q_proj"]
    assert not hasattr(config.adapter, "num_experts")


def test_the_commands_list_show_and_compare_it(path: Path, trained) -> None:
    out = str(Path(trained["out"]))
    listed = document(call("runs", "--out", out, "--json").stdout)
    assert [(row["state"], row["system"], row["error"]) for row in listed] == [("finished", "gatedlora", "")] * 2
    shown = call("runs", "--out", out, "show", path.name)
    assert shown.exit_code == 0 and "adapter.warmth" in shown.stdout and "GATEDLORA" in shown.stdout
    compared = call("runs", "--out", out, "compare", "*", "--json")
    assert [row["field"] for row in document(compared.stdout)["config"]] == ["seed"]


def test_analyses_and_figures_take_it(trained) -> None:
    runs = [ma.Run.load(path) for path in run_paths(trained["out"])]
    axes = path_axes(runs, "layers.0.self_attn.q_proj")
    assert trajectory_explorer(router_paths(runs, axes.module, axes), axes) is not None
    assert config_differences(runs)["field"].tolist() == ["seed"]
    assert len(final_results(runs)) == 2 and len(dataset_scores(runs)) == 4


def test_what_needs_the_class_says_both_ways_to_it(path: Path, trained) -> None:
    run = ma.Run.load(path)
    suite = trained["fields"]["suite"]
    ways = (
        run.model,
        lambda: evaluate_on(run, suite),
        lambda: evaluate_all([run], suite),
        lambda: gates_of_runs([run], run.evaluation),
        lambda: gates_of_runs([run], None, trained=False),
    )
    for way in ways:
        with pytest.raises(
            RunError,
            match=rf"{path.name} has no model here: the adapter 'gatedlora' \(gated_lora.py, "
            rf"sha256 {SHA256[:12]}\) is not registered here; pass that file to ma.use_adapter, or call "
            r"run.model\(trust_code=True\)",
        ):
            way()
    with pytest.raises(ValueError, match="adapter = 'gatedlora' can be read but not trained: .*ma.use_adapter"):
        ma.train(run.config, path.parent)


def test_an_old_folder_without_the_source_opens_too_and_says_what_is_missing(path: Path) -> None:
    shutil.rmtree(path / "adapter_source")
    run = ma.Run.load(path)
    assert run.finished and run.config.run_name == path.name
    for options in ({}, {"trust_code": True}):
        assert "'gatedlora' is not registered here, and the run has no copy of its source; pass its file" in refused(
            run, **options
        )


# The class, in other processes


def test_a_trusted_copy_gives_the_model_again_also_to_the_processes_that_evaluate(trained, tmp_path: Path) -> None:
    told = elsewhere(
        """
    from moe_analysis.training.run_folder import run_paths
    from moe_analysis.training.transfer import evaluate_all
    run = ma.Run.load(given["path"])
    told["logits"] = logits(run.model(trust_code=True))
    told["type"] = type(run.config.adapter).__name__
    runs = [ma.Run.load(path) for path in run_paths(given["out"])]
    told["others"] = [logits(other.model()) == told["logits"] for other in runs]
    tables = evaluate_all(runs, given["fields"]["suite"], workers=1, rows_per_dataset=2)
    told["rows"] = [len(table) for table in tables]
    told["losses"] = [tables[1]["loss"].tolist(), runs[1].evaluation["loss"].tolist()]
    """,
        executed=tmp_path / "executed",
        **trained,
    )
    np.testing.assert_allclose(told["logits"], trained["logits"], rtol=1e-5, atol=1e-6)
    assert told["type"] == "GatedLoraConfig"
    assert told["others"].count(True) == 1, "the other run has other weights, and asks for no word again"
    assert told["rows"] == [2, 2]
    np.testing.assert_allclose(*told["losses"], rtol=1e-5)
    assert (tmp_path / "executed").read_text() == "once once ", "here, and in the process that evaluates"


def test_the_same_file_registered_is_the_class_and_another_version_is_refused(trained, tmp_path: Path) -> None:
    (tmp_path / "moved.py").write_text(FILE)
    told = elsewhere(
        """
    ma.use_adapter(given["moved"])
    run = ma.Run.load(given["path"])
    told["type"], told["logits"] = type(run.config.adapter).__name__, logits(run.model())
    told["again"] = ma.train(run.config, given["out"]).id
    """,
        moved=str(tmp_path / "moved.py"),
        **trained,
    )
    assert told["type"] == "GatedLoraConfig" and told["again"] == Path(trained["path"]).name
    np.testing.assert_allclose(told["logits"], trained["logits"], rtol=1e-5, atol=1e-6)

    (tmp_path / "changed.py").write_text(FILE + "\n# another thought\n")
    told = elsewhere(
        """
    Config = ma.use_adapter(given["changed"])
    from moe_analysis.training.sweep.running import sweep
    run = ma.Run.load(given["path"])
    told["finished"], told["type"] = run.finished, type(run.config.adapter).__name__
    told["model"] = [refusal(run.model), refusal(lambda: run.model(trust_code=True))]
    adapter = Config(r=3, alpha=8, warmth=2, target_modules=["q_proj"])
    config = ma.TrainConfig(adapter=adapter, seed=1, **given["fields"])
    told["train"] = [refusal(lambda: ma.train(config, given["out"])), refusal(lambda: sweep([config], given["out"]))]
    """,
        changed=str(tmp_path / "changed.py"),
        **trained,
    )
    assert told["finished"] and told["type"] == "KeptAdapter"
    for text in told["model"]:
        assert text.startswith("RunError: ")
        assert f"is not the one of the run (gated_lora.py, sha256 {SHA256[:12]})" in text
    for text in told["train"]:
        assert "restore that file, delete the run, or pass another out" in text and "changed.py, sha256 " in text


# Folders that something happened to


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "is not readable JSON"),
        ("[]", "contains list, not an object"),
        ('{"file": "a.py"}', "instead of a file and a sha256"),
        ('{"file": 1, "sha256": "00"}', "instead of a file and a sha256"),
        ("7" * 5000, "is not readable JSON"),
        ("[" * 100_000, "is not readable JSON"),
        (None, "is missing"),
    ],
)
def test_what_is_told_of_the_source_and_damaged_is_named(content: str | None, words: str, path: Path) -> None:
    about = path / "adapter_source" / "about.json"
    about.unlink()
    if content is not None:
        about.write_text(content)
    with pytest.raises(RunError, match=rf"about\.json .*{words}.*; restore it"):
        ma.Run.load(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda one: one.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for(make, path: Path) -> None:
    about = path / "adapter_source" / "about.json"
    about.unlink()
    make(about)
    with pytest.raises(RunError, match=r"about\.json is not a file"):
        ma.Run.load(path)


def test_a_copy_that_was_changed_is_not_executed(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EXECUTED", str(tmp_path / "executed"))
    (path / "adapter_source" / "gatedlora.py").write_text(FILE + "\n")
    assert f"but {SHA256[:12]} is that of the file which the run was trained with" in refused(
        ma.Run.load(path), trust_code=True
    )
    (path / "adapter_source" / "gatedlora.py").unlink()
    assert "gatedlora.py cannot be read" in refused(ma.Run.load(path), trust_code=True)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content, words",
    [
        ("import nobody_has_this", "cannot be imported (ModuleNotFoundError"),
        ("def", "cannot be imported (SyntaxError"),
        ("VALUE = 1", "registers nothing, not gatedlora"),
    ],
)
def test_a_copy_that_cannot_be_used_says_why(content: str, words: str, path: Path) -> None:
    (path / "adapter_source" / "gatedlora.py").write_text(content)
    about = {"file": "gated_lora.py", "sha256": hashlib.sha256(content.encode()).hexdigest()}
    (path / "adapter_source" / "about.json").write_text(json.dumps(about))
    assert words in refused(ma.Run.load(path), trust_code=True)


@pytest.mark.parametrize("kind", ["../../evil", "a b", "", 3, ["TREX"], "ünïcode-x"])
def test_a_type_that_is_no_word_leads_nowhere(kind: object, path: Path) -> None:
    change(path, peft_type=kind)
    with pytest.raises(RunError, match=r"config\.json is not a configuration of a run: adapter"):
        ma.Run.load(path)


def test_a_type_or_a_field_of_a_newer_version_is_read_and_its_model_refused(config, out: Path) -> None:
    run = ma.train(config(steps=1, record_every=0), out)
    change(run.path, gate_memory=0.5)
    newer = ma.Run.load(run.path)
    assert newer.config.adapter.gate_memory == 0.5 and newer.config.adapter.num_experts == 4
    assert "has gate_memory, which MOELORA does not have here; update moe_analysis and peft" in refused(newer)
    change(run.path, peft_type="NEWLORA")
    assert ma.Run.load(run.path).config.system == "newlora" and len(ma.Run.load(run.path).evaluation) == 2
    assert "update moe_analysis and peft if it comes from a newer version" in refused(ma.Run.load(run.path))


def test_a_configuration_of_ones_own_with_an_unknown_field_is_refused_and_not_trained_without_it() -> None:
    with pytest.raises(ValueError, match="adapter.num_expert is not a field of MOELORA; it has .*num_experts"):
        ma.TrainConfig.from_dict({"adapter": {"peft_type": "MOELORA", "num_expert": 8}})


def test_a_run_that_fails_keeps_the_source_too(tmp_path: Path, config, monkeypatch) -> None:
    from moe_analysis.training.sweep.work import FAILED, Outcome, keep_failure

    monkeypatch.setitem(own.SOURCES, "mine", own.Source(Path("mine.py"), b"VALUE = 1\n"))
    monkeypatch.setitem(REGISTRY, "moelora", type("Mine", (), {"__module__": "mine"}))
    failed = config()
    keep_failure(failed, tmp_path, Outcome(FAILED, "Error: x", "Error: x\n"))
    assert state_of(tmp_path / failed.run_name, {}) == FAILED
    assert (tmp_path / failed.run_name / "adapter_source" / "moelora.py").exists()


def test_nothing_is_executed_for_an_adapter_that_is_registered(tmp_path: Path) -> None:
    execute_kept(tmp_path, "trex")
    assert KeptAdapter(values={"peft_type": "x"}).why == ""
