"""One run over two processes is the run of one process: the same rows, losses, gradients and records, written once.

Processes are started by accelerate and by torchrun as a user would start them. A process takes seconds to import
torch, so one launch trains the runs of many tests, with transformers' Trainer too, and a second one goes on with a run
that the first did not finish. About a minute of CPU time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import moe_analysis as ma
from moe_analysis.tasks.batches import Example
from moe_analysis.training import distributed, trainer
from moe_analysis.training.prepare import collate_share
from moe_analysis.training.recorders.recorder import every_nth
from moe_analysis.training.sweep import running
from moe_analysis.training.sweep.running import sweep
from tests.peft_bridge.systems import OPTIONS

ROOT = Path(__file__).parents[2]
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ACCELERATE = ("--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
LAUNCHER = (
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "ACCELERATE_MIXED_PRECISION",
    *distributed.SWITCHES,
    *distributed.COUNTS,
)
TARGETS = {"r": 2, "target_modules": ["q_proj", "v_proj"]}


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m` with the arguments from the project's folder, as if no launcher had started the tests."""
    values = {key: value for key, value in os.environ.items() if key not in LAUNCHER}
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    values |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=values,
        text=True,
        timeout=300,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.fixture(scope="module")
def make(backbone: str, suite: str):
    """A function that makes a configuration of 6 steps on 48 rows; keyword arguments change it."""

    def configuration(**changes) -> ma.TrainConfig:
        values = {
            "backbone": backbone,
            "suite": suite,
            "adapter": ma.MoeLoraConfig(num_experts=4, **TARGETS),
            "steps": 6,
            "batch_size": 8,
            "save_every": 100,
            "eval_rows": 4,
            "embedder": "tfidf",
            "warmup_steps": 0,
            "lr": 1e-2,
            "prompt_form": "options",
        }
        return ma.TrainConfig(**{**values, **changes})

    return configuration


@pytest.fixture(scope="module")
def configs(make) -> dict[str, ma.TrainConfig]:
    tree = ma.SmoreConfig(**{**TARGETS, "num_experts": [3, 3], "fanout": [2, 2], "r": [2, 2], "balance_coef": 0.0})
    balanced = ma.MoeLoraConfig(num_experts=4, top_k=2, gate="switch", **TARGETS)
    noisy = make(adapter=ma.MoeLoraConfig(num_experts=4, dropout=0.2, **TARGETS), save_every=2)
    return {
        "epochs": make(batch_size=10, steps=11, eval_every=4, record_experts_every=2),  # the fifth batch has 8 rows
        "trees": make(adapter=tree, gradient_accumulation=2, batch_size=6, steps=4, record_trees_every=1),
        "intuition": make(adapter=ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj"]), steps=3),
        "odd": make(datasets=["say"], rows_per_dataset=9, steps=4, record_experts_every=1),  # every other batch: 1 row
        "balanced": make(adapter=balanced, gradient_checkpointing=True),
        "mixed": make(adapter=balanced, precision="bf16", steps=3),
        "indivisible": make(batch_size=7),
        "whole": noisy,
        "killed": noisy,
    }


@pytest.fixture(scope="module")
def launched(configs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes trained every configuration, the last of them until its sixth step."""
    out = tmp_path_factory.mktemp("two")
    plan = [
        {"name": name, "config": config.to_dict(), "dies_at": 6 if name == "killed" else None}
        for name, config in configs.items()
    ]
    (out / "plan.json").write_text(json.dumps(plan))
    script = (str(Path(__file__).with_name("two_processes.py")), str(out / "plan.json"), str(out))
    done = launch("accelerate.commands.launch", *ACCELERATE, "--multi_gpu", "--main_process_port", "0", *script)
    assert done.returncode != 0 and "SIGKILL" in done.stdout, done.stdout
    return out


@pytest.fixture(scope="module")
def seen(launched) -> list[dict[str, dict]]:
    """What each of the two processes noted."""
    return [json.loads((launched / f"seen-by-{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(configs, tmp_path_factory: pytest.TempPathFactory):
    """A function that trains a configuration in this process, once."""
    out = tmp_path_factory.mktemp("one")
    return lambda name: ma.train(configs[name], out)


def run_of_two(launched: Path, name: str, configs: dict[str, ma.TrainConfig]) -> ma.Run:
    run = ma.Run.load(launched / name / configs[name].run_name)
    assert run.finished and run.status["world_size"] == 2
    return run


def assert_close(one: pd.DataFrame, two: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, two, check_exact=False, rtol=2e-6, atol=1e-6)


def assert_same_records(one, two, rtol: float = 1e-3, atol: float = 2e-6) -> None:
    """Equal to rounding, which Adam divides by the root of a small second moment."""
    assert one["step"].values.tolist() == two["step"].values.tolist()
    assert set(one.data_vars) == set(two.data_vars)
    for name in one.data_vars:
        np.testing.assert_allclose(two[name].values, one[name].values, rtol=rtol, atol=atol, err_msg=name)


def test_the_plain_trainer_over_two_processes_makes_the_gradient_of_all_rows_by_hand(launched) -> None:
    """The balance loss counts once per sample there too."""
    found = json.loads((launched / "gradients.json").read_text())
    assert len(found) == 4 * len(OPTIONS)
    assert {name: error for name, error in found.items() if not error < 1e-5} == {}


@pytest.mark.parametrize("name", ["epochs", "trees", "intuition", "odd"])
def test_two_processes_give_the_history_evaluation_and_gradients_of_one(name, configs, launched, alone) -> None:
    one, two = alone(name), run_of_two(launched, name, configs)
    assert one.status["world_size"] == 1
    assert_close(one.history, two.history)
    assert_close(one.evaluation, two.evaluation)
    assert name == "trees" or np.abs(one.records["router_grad"].values).max() > 0
    assert_same_records(one.records, two.records)


@pytest.mark.parametrize(
    "name, kind", [("epochs", "expert_records"), ("odd", "expert_records"), ("trees", "tree_records")]
)
def test_experts_and_trees_are_recorded_over_the_tokens_of_both_processes(name, kind, configs, launched, alone) -> None:
    one, two = getattr(alone(name), kind), getattr(run_of_two(launched, name, configs), kind)
    # B starts at zero, so that its first Gram matrices are singular but for rounding
    one, two = (records.drop_vars("gram_condition_b", errors="ignore") for records in (one, two))
    assert_same_records(one, two)


@pytest.mark.parametrize("name", ["balanced", "mixed"])
def test_the_balance_loss_is_the_mean_of_both_halves_of_a_batch(name, configs, launched, tmp_path) -> None:
    """One process that takes the halves one after the other has the same losses and gradients."""
    halves = ma.TrainConfig.from_dict({**configs[name].to_dict(), "batch_size": 4, "gradient_accumulation": 2})
    one, two = ma.train(halves, tmp_path), run_of_two(launched, name, configs)
    assert one.history["balance_loss"].max() > 0.05
    assert_close(one.history, two.history)
    np.testing.assert_allclose(one.records["router_grad"].values, two.records["router_grad"].values, atol=1e-7)


def test_both_processes_hold_the_same_weights_and_return_the_same_run(configs, seen) -> None:
    first, second = seen
    for name in set(configs) - {"indivisible", "killed"}:
        assert first[name] == second[name] and len(first[name]["weights"]) == 64


def test_a_batch_that_cannot_be_divided_is_refused_in_both_processes(seen) -> None:
    for notes in seen:
        assert "batch_size = 7" in notes["indivisible"]["error"] and "divided among 2" in notes["indivisible"]["error"]


def test_a_run_that_lost_a_process_goes_on_from_its_checkpoint(configs, launched) -> None:
    """The processes' random numbers go on too: with dropout the history is that of the run that was left alone."""
    killed = ma.Run.load(launched / "killed" / configs["killed"].run_name)
    assert not killed.finished and (killed.path / "checkpoints" / "checkpoint-4" / "complete").exists()
    (launched / "config.json").write_text(json.dumps(configs["killed"].to_dict()))
    command = ("-m", "moe_analysis", "train", str(launched / "config.json"), "--out", str(launched / "killed"))
    done = launch(*TORCHRUN, *command)
    assert done.returncode == 0, done.stdout
    resumed, whole = run_of_two(launched, "killed", configs), run_of_two(launched, "whole", configs)
    pd.testing.assert_frame_equal(resumed.history, whole.history)
    assert_same_records(resumed.records, whole.records, rtol=0, atol=0)
    assert not (resumed.path / "checkpoints").exists()


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "options, refused",
    [
        (("--cpu", *ACCELERATE), True),
        (ACCELERATE, True),  # without --multi_gpu, on a machine without GPUs
        (("--cpu", "--num_processes", "1", *ACCELERATE[2:]), False),
    ],
)
def test_one_process_that_accelerate_starts_in_place_of_two_is_refused(no_launcher, config, out, options, refused):
    """accelerate's own code makes the environment that `accelerate launch` with these options would start it in."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

    given, *_ = _validate_launch_command(launch_command_parser().parse_args([*options, "script.py"]))
    for name, value in prepare_simple_launcher_cmd_env(given)[1].items():
        no_launcher.setenv(name, value)
    if refused:
        with pytest.raises(ValueError, match="started one.*torchrun --nproc_per_node"):
            ma.train(config(), out)
        assert not out.exists()
    else:
        distributed.start()


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE = 2 without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; start .*torchrun"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE = 4 announces 4 processes but 1 met; start .*torchrun"),
    ],
)
def test_processes_that_were_announced_and_did_not_come_are_missed(no_launcher, config, out, environment, message):
    for name, value in environment.items():
        no_launcher.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        ma.train(config(), out)
    assert not out.exists()


@pytest.mark.parametrize(
    "name, value, precision, refused",
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", "float32", True),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "bf16", True),
        ("ACCELERATE_MIXED_PRECISION", "", "float32", True),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "bf16", False),
        ("ACCELERATE_MIXED_PRECISION", "no", "bf16", False),  # what accelerate launch sets where nothing was asked for
        ("ACCELERATE_DYNAMO_BACKEND", "EAGER", "float32", True),
        ("ACCELERATE_DYNAMO_BACKEND", "NO", "float32", False),
        ("ACCELERATE_USE_FSDP", "true", "float32", True),
        ("ACCELERATE_USE_DEEPSPEED", "1", "float32", True),
        ("ACCELERATE_USE_MEGATRON_LM", "false", "float32", False),
    ],
)
def test_numbers_that_only_the_environment_asks_for_are_refused(
    no_launcher, config, out, monkeypatch, name: str, value: str, precision: str, refused: bool
) -> None:
    class TrainedError(Exception):
        pass

    def trained(*_) -> None:
        raise TrainedError

    monkeypatch.setattr(trainer, "prepare_model", trained)
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError if refused else TrainedError, match=f"{name} = '{value}'" if refused else None):
        ma.train(config(precision=precision), out)
    assert not out.exists()


def test_a_sweep_refuses_them_once_before_any_work(no_launcher, config, out, monkeypatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setattr(running, "read_once", lambda configs: pytest.fail("data was read"))
    with pytest.raises(ValueError, match="ACCELERATE_MIXED_PRECISION = 'bf16' but precision = 'float32'"):
        sweep([config(precision="bf16"), config(), config(seed=1)], out)
    assert not out.exists()


def test_a_finished_run_is_returned_in_any_environment(no_launcher, training_config, out, monkeypatch) -> None:
    run = ma.train(training_config, out)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert ma.train(training_config, out).id == sweep([training_config], out).runs[0].id == run.id


def test_several_gpus_in_one_process_do_not_multiply_the_batch() -> None:
    arguments = SimpleNamespace(n_gpu=4, world_size=1)
    distributed.one_device_a_process(arguments)
    assert arguments._n_gpu == 1
    with pytest.raises(ValueError, match="1 processes met but accelerate expects 2"):
        distributed.one_device_a_process(SimpleNamespace(n_gpu=1, world_size=2))


def of_each(size: int, function) -> list:
    """What a function returns in every one of `size` processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "world_size", lambda: size)
        results = []
        for rank in range(size):
            patch.setattr(distributed, "rank", lambda rank=rank: rank)
            results.append(function())
        return results


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(1, 9))
def test_the_shares_of_a_batch_are_the_batch_and_differ_by_a_row_at_most(rows, size):
    shares = of_each(size, lambda: distributed.share(range(rows)))
    assert [row for one in shares for row in one] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@settings(max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(1, 12))
def test_evenly_spaced_tokens_do_not_depend_on_how_a_batch_is_divided(counts, most):
    total = sum(counts)
    parts, before = [], 0
    for tokens in counts:
        own = list(range(before, before + tokens))
        parts += own[every_nth(tokens, most, (before, total))]
        before += tokens
    assert parts == list(range(total))[every_nth(total, most)] and len(parts) <= most


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 6))
def test_a_process_without_rows_answers_nothing_and_weighs_nothing(rows, size):
    examples = [(Example(list(range(3, 8 + row)), 4), None) for row in range(rows)]
    batches = of_each(size, lambda: collate_share(examples, pad=0))
    assert sum(batch["weight"] for batch in batches) == pytest.approx(size)
    answers = sum(int((batch["labels"] != -100).sum()) for batch in batches)
    assert answers == sum(len(one.input_ids) - 4 for one, _ in examples)
    for batch in batches:
        assert bool((batch["labels"] != -100).any()) == bool(batch["attention_mask"].any()) == (batch["weight"] > 0)


SYSTEMS = {
    "LoRA": lambda: peft.LoraConfig(task_type="CAUSAL_LM", **TARGETS),
    "LoRA-MoE": lambda: ma.MoeLoraConfig(num_experts=4, top_k=1, **TARGETS),
    "SiRA": lambda: ma.SiraConfig(num_experts=4, top_k=2, **TARGETS),
    "HydraLoRA": lambda: ma.HydraLoraConfig(num_experts=3, **TARGETS),
    "MixLoRA": lambda: ma.MoeLoraConfig(num_experts=4, top_k=2, gate="switch", **TARGETS),
    "noisy top-k": lambda: ma.MoeLoraConfig(num_experts=4, top_k=2, gate="noisy_topk", **TARGETS),
    "MoMOR": lambda: ma.MomorConfig(target_modules=TARGETS["target_modules"]),
    "S'MoRE": lambda: ma.SmoreConfig(**{**TARGETS, "num_experts": [3, 3], "fanout": [2, 2], "r": [2, 2]}),
    "S'MoRE bottom-up": lambda: ma.SmoreConfig(
        **{**TARGETS, "num_experts": [3, 3], "fanout": [2, 2], "r": [2, 2], "router": "bottom_up"}
    ),
    "mix-and-match": lambda: ma.TRexConfig(num_down=2, num_up=3, intuition=False, **TARGETS),
    "T-REX": lambda: ma.TRexConfig(num_down=2, num_up=3, intuition_mapper=True, **TARGETS),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_step_reaches_every_parameter_as_the_other_processes_expect(system, tiny_llama, tokens) -> None:
    adapter = SYSTEMS[system]()
    model = peft.get_peft_model(tiny_llama, adapter).train()
    known = {"intuition": torch.randn(2, adapter.clusters)} if getattr(adapter, "intuition", False) else {}
    model(**tokens, **known).loss.backward()
    assert [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None] == []
