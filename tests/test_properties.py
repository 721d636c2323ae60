"""Properties of public functions that their own tests show on examples, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import moe_analysis as ma
from moe_analysis.adapters import HydraLoraConfig, MoeLoraConfig, SiraConfig, SmoreConfig, TRexConfig, gates
from moe_analysis.evidence.bootstrap import holm, paired_bootstrap
from moe_analysis.evidence.intervals import mean_interval
from moe_analysis.tasks.clusters import Clusters
from moe_analysis.theory.flexibility import SYSTEMS, flexibility_table
from moe_analysis.theory.method_table import method_table
from moe_analysis.training.files import HISTORY, history_frame, read_table, write_table
from moe_analysis.training.recorders.store import BLOCK, RecordStore, open_records

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 2**31)


def unit_rows(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    rows = rng.normal(size=(n, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# Clusters and intuition


@FEW
@given(seed=SEEDS, n=st.integers(1, 12), k=st.integers(1, 6), width=st.integers(2, 9))
def test_intuition_follows_the_order_of_rows_and_of_centroids_and_not_their_lengths(seed, n, k, width) -> None:
    rng = np.random.default_rng(seed)
    rows, centroids = unit_rows(rng, n, width), rng.normal(size=(k, width)).astype(np.float32)
    scores = Clusters(centroids, np.zeros(n, int), 0, 0.0).intuition(rows)
    order, kinds, lengths = rng.permutation(n), rng.permutation(k), rng.uniform(0.1, 9.0, (k, 1)).astype(np.float32)
    turned = Clusters((centroids * lengths)[kinds], np.zeros(n, int), 0, 0.0).intuition(rows[order])
    np.testing.assert_allclose(turned, scores[order][:, kinds], atol=1e-5)
    own = Clusters(centroids, np.zeros(n, int), 0, 0.0)
    np.testing.assert_allclose(np.diag(own.intuition(own.directions)), 1.0, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, k=st.integers(2, 4))
def test_clusters_of_separate_groups_do_not_depend_on_the_order_of_rows(seed, k) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(k), 8))
    rows = np.eye(6)[truth] + 0.02 * rng.normal(size=(8 * k, 6))
    order = rng.permutation(len(rows))
    first, second = ma.cluster(rows, k=k, seed=1).labels, ma.cluster(rows[order], k=k, seed=1).labels
    assert ((first[order][:, None] == first[order]) == (second[:, None] == second)).all()


# Embeddings


@FEW
@given(texts=st.lists(st.text("abc 1+", min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=6), seed=SEEDS)
def test_an_embedding_belongs_to_its_text_cached_or_not(texts: list[str], seed: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_CACHE", str(tmp_path))
    rows = ma.embed(texts, model="tfidf", cache=False)
    order = np.random.default_rng(seed).permutation(len(texts))
    computed, read = (ma.embed([texts[place] for place in order] + texts, model="tfidf") for _ in range(2))
    np.testing.assert_allclose(computed, np.concatenate([rows[order], rows]), atol=1e-6)
    assert read.tobytes() == computed.tobytes()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


# Suites


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)


@st.composite
def suite_rows(draw) -> list[dict]:
    group = draw(TEXT)
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        choices = draw(st.none() | st.lists(TEXT, min_size=2, max_size=4, unique=True))
        label = draw(st.integers(0, len(choices) - 1)) if choices else None
        rows.append(
            {
                "dataset": "one",
                "group": group,
                "split": "train",
                "prompt": draw(TEXT),
                "choices": choices,
                "answer": choices[label] if choices else draw(TEXT),
                "label": label,
            }
        )
    return rows


@FEW
@given(rows=suite_rows(), ascii_only=st.booleans())
def test_any_sound_rows_come_back_from_either_kind_of_file(rows: list[dict], ascii_only: bool, tmp_path: Path) -> None:
    for name in ("lines", "table"):
        (tmp_path / name).mkdir(exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows]
    (tmp_path / "lines" / "a.jsonl").write_bytes("".join(lines).encode())
    pd.DataFrame(rows).to_parquet(tmp_path / "table" / "a.parquet")
    frame = ma.load_suite(tmp_path / "lines")
    assert frame.astype(object).where(frame.notna(), None).to_dict("records") == rows
    pd.testing.assert_frame_equal(ma.load_suite(tmp_path / "table"), frame)


# Configurations


ADAPTERS = st.sampled_from(
    [
        ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj"]),
        ma.TRexConfig(num_down=2, num_up=3, temperature=1),
        ma.TRexConfig(num_down=2, num_up=3, temperature=1.0),
        ma.MoeLoraConfig(num_experts=4, alpha=8),
        ma.MoeLoraConfig(num_experts=4, alpha=8.0),
        ma.MoeLoraConfig(num_experts=4, alpha=8.5),
        ma.SmoreConfig(num_experts=[3, 2], fanout=[1, 1], r=[2, 1]),
        ma.MomorConfig(),
        ma.SiraConfig(),
        peft.LoraConfig(r=2, lora_alpha=2.5, target_modules=["v_proj"]),
        peft.LoraConfig(r=2, target_modules="all-linear"),
    ]
)
CONFIGS = st.builds(
    ma.TrainConfig,
    adapter=ADAPTERS,
    lr=st.sampled_from([1, 1.0, 0.5]),
    router_lr=st.sampled_from([None, 0, 0.0]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    datasets=st.sampled_from([None, ["a"], ["a", "b"]]),
    optimizer=st.sampled_from(["adamw", "riemannian_sgd"]),
    optimizer_options=st.sampled_from([{}, {"damping": 1e-3}]),
    eval_rows=st.sampled_from([None, 50]),
    name=st.sampled_from([None, "mine", "thine é"]),
    seed=st.integers(0, 1),
)


@FEW
@given(config=CONFIGS)
def test_a_configuration_comes_back_from_json_equal(config: ma.TrainConfig) -> None:
    read = ma.TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert read == config and read.to_dict() == config.to_dict() and read.run_name == config.run_name


@settings(max_examples=300, deadline=None)
@given(first=CONFIGS, second=CONFIGS)
def test_digests_are_equal_exactly_where_configurations_are_but_for_their_names(first, second) -> None:
    assert (first.digest == second.digest) == (replace(first, name=None) == replace(second, name=None))
    some = replace(second, adapter=first.adapter, lr=first.lr, seed=first.seed)  # closer, so that both cases come up
    assert (first.digest == some.digest) == (replace(first, name=None) == replace(some, name=None))


def test_a_whole_number_and_the_real_that_equals_it_make_the_same_run() -> None:
    assert ma.TrainConfig(lr=1).digest == ma.TrainConfig(lr=1.0).digest != ma.TrainConfig(lr=1.5).digest


# History and tables


NUMBERS = st.floats(0, 9) | st.just(float("nan"))
TRAIN = st.fixed_dictionaries(
    {
        "step": st.integers(1, 4),
        "loss": NUMBERS,
        "accuracy": NUMBERS,
        "learning_rate": NUMBERS,
        "grad_norm": NUMBERS,
        "balance_loss": NUMBERS,
    }
)
TEST = st.fixed_dictionaries({"step": st.integers(1, 4), "eval_loss": NUMBERS, "eval_accuracy": NUMBERS})
OTHER = st.just({"step": 4, "train_runtime": 3.0})


@FEW
@given(log=st.lists(TRAIN | TEST | OTHER, min_size=1, max_size=12))
def test_a_history_has_one_row_a_step_and_split_and_comes_back_from_disk(log: list[dict], tmp_path: Path) -> None:
    frame = history_frame(log)
    assert list(frame.columns) == HISTORY and not frame.duplicated(["step", "split"]).any()
    for row in frame.to_dict("records"):
        kind, key = ("test", "eval_loss") if row["split"] == "test" else ("train", "loss")
        last = [entry for entry in log if key in entry and entry["step"] == row["step"]][-1]
        np.testing.assert_equal(row["loss"], last[key])
        assert kind == "train" or np.isnan(row["lr"])
    if len(frame):
        write_table(tmp_path / "history.parquet", frame)
        pd.testing.assert_frame_equal(read_table(tmp_path / "history.parquet", HISTORY), frame, check_dtype=False)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(
        st.tuples(st.sampled_from(["append", "append", "flush", "cut", "reopen"]), st.integers(0, 70)), max_size=8
    )
)
def test_a_record_holds_what_a_list_would_whatever_was_appended_flushed_and_cut(moves, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("record") / "r"
    store, kept, pending = RecordStore(path), [], []
    store.declare("router_weight", ("module",), (2,), {"module": ["a", "b"]})
    for move, number in moves:
        if move == "append":
            for _ in range(number):
                step = len(kept) + len(pending)
                store.append(step, {"router_weight": np.array([step, -step], dtype=np.float32)})
                pending.append(step)
                if len(pending) == BLOCK:
                    kept, pending = kept + pending, []
        elif move == "flush":
            store.flush()
            kept, pending = kept + pending, []
        elif move == "cut":
            store.cut(number)
            kept, pending = [step for step in kept if step < number], []
        else:
            store, pending = RecordStore(path), []
    data = open_records(path)
    assert data["step"].values.tolist() == kept == data["router_weight"].values[:, 0].tolist()


# Gates, costs and counts


@FEW
@given(seed=SEEDS, experts=st.integers(1, 8), data=st.data())
def test_a_softmax_of_the_largest_logits_is_their_share_of_the_softmax_of_all(seed, experts, data) -> None:
    k = data.draw(st.integers(1, experts))
    logits = torch.randn(5, experts, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    kept = gates.keep_top_k(logits.softmax(-1), k, normalize=True)
    torch.testing.assert_close(gates.top_k_softmax(logits, k), kept, rtol=1e-12, atol=1e-15)
    order = torch.randperm(experts, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(gates.top_k_softmax(logits[:, order], k), kept[:, order], rtol=1e-12, atol=1e-15)


METHODS = {
    "moe": MoeLoraConfig(num_experts=4, top_k=2, r=2),
    "trex": TRexConfig(num_down=2, num_up=3),
    "smore": SmoreConfig(num_experts=[3, 2], fanout=[2, 1], key_dim=3, down_dim=4),
    "hydra": HydraLoraConfig(r=2),
    "sira": SiraConfig(num_experts=4, top_k=2),
}
SHAPES = st.lists(st.tuples(st.integers(8, 40), st.integers(8, 40)), min_size=1, max_size=4)


@FEW
@given(shapes=SHAPES, more=SHAPES, seed=SEEDS)
def test_costs_of_layers_add_up_in_any_order_and_no_token_uses_more_than_there_is(shapes, more, seed) -> None:
    counted = ["trainable", "active", "operations", "computed"]
    parts, both = (method_table(METHODS, layers) for layers in (shapes, shapes + more))
    assert (both[counted] == parts[counted] + method_table(METHODS, more)[counted]).all(axis=None)
    mixed = [(shapes + more)[place] for place in np.random.default_rng(seed).permutation(len(shapes + more))]
    pd.testing.assert_frame_equal(method_table(METHODS, mixed), both)
    assert (both["active"] <= both["trainable"]).all() and (both["operations"] <= both["computed"]).all()
    assert both["router_share"].between(0, 1).all()


@FEW
@given(shapes=SHAPES, budget=st.integers(1500, 20_000), seed=SEEDS)
def test_a_budget_is_met_alike_in_any_order_of_layers(shapes, budget, seed) -> None:
    mixed = [shapes[place] for place in np.random.default_rng(seed).permutation(len(shapes))]
    try:
        found = ma.match_budget(METHODS["moe"], budget, shapes, tolerance=0.2)
    except ValueError:
        with pytest.raises(ValueError, match="cannot be met"):
            ma.match_budget(METHODS["moe"], budget, mixed, tolerance=0.2)
    else:
        assert ma.match_budget(METHODS["moe"], budget, mixed, tolerance=0.2) == found


@FEW
@given(s=st.integers(1, 7), data=st.data(), layers=st.integers(1, 5))
def test_flexibility_never_falls_with_a_larger_pool_or_another_layer(s, data, layers) -> None:
    f = data.draw(st.integers(1, s))
    small, large = (flexibility_table(pool, f, range(1, layers + 1), SYSTEMS) for pool in (s, s + 1))
    assert all(a <= b for a, b in zip(small["flexibility"], large["flexibility"]))
    for _, rows in large.groupby("system"):
        assert rows["flexibility"].is_monotonic_increasing
        assert np.allclose(
            rows["log10"],
            [
                np.log10(float(value)) if value < 10**300 else number
                for value, number in zip(rows["flexibility"], rows["log10"])
            ],
        )


# Statistics


@FEW
@given(seed=SEEDS, tasks=st.integers(2, 6), seeds=st.integers(2, 5), shift=st.floats(-5, 5), scale=st.floats(0.1, 9))
def test_a_comparison_moves_with_what_is_added_and_stretches_with_what_is_multiplied(
    seed, tasks, seeds, shift, scale
) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, tasks, seeds))
    plain = paired_bootstrap(first, second, draws=200)
    moved = paired_bootstrap(scale * (first + 7) + shift, scale * (second + 7), draws=200)
    np.testing.assert_allclose(moved[:3], scale * np.array(plain[:3]) + shift, atol=1e-9)
    same = paired_bootstrap(first + 7, second + 7, draws=200)
    assert same.p == pytest.approx(plain.p, abs=1.1 / 201)  # one draw at the edge may fall to either side by rounding


@FEW
@given(values=st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=8), seed=SEEDS)
def test_holms_correction_follows_the_order_of_its_values(values: list[float], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(values))
    np.testing.assert_array_equal(holm(np.array(values)[order]), holm(values)[order])


@FEW
@given(seed=SEEDS, n=st.integers(2, 9), shift=st.floats(-5, 5), scale=st.floats(0.1, 9))
def test_the_interval_of_a_mean_moves_and_stretches_with_its_values(seed, n, shift, scale) -> None:
    values = np.random.default_rng(seed).normal(size=n)
    mean, low, high = plain = mean_interval(values)
    assert low < mean < high
    np.testing.assert_allclose(mean_interval(scale * values + shift), scale * np.array(plain) + shift, atol=1e-9)
    assert mean_interval([*values, np.nan, np.inf]) == plain
