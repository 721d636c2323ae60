"""Runs in half precision: what is frozen is in bfloat16, what is trained is not, and both come back from disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

import moe_analysis as ma
from moe_analysis.training.answers import SHORT, attention_of
from moe_analysis.training.prepare import load_frozen
from moe_analysis.training.transfer import evaluate_on

TARGETS = ["q_proj", "v_proj", "down_proj"]
ADAPTERS = {
    "lora": LoraConfig(r=2, target_modules=TARGETS, task_type="CAUSAL_LM"),
    "moelora": ma.MoeLoraConfig(num_experts=4, top_k=2, gate="switch", r=2, target_modules=TARGETS),
    "sira": ma.SiraConfig(num_experts=4, top_k=2, r=2, target_modules=TARGETS),
    "hydralora": ma.HydraLoraConfig(num_experts=3, r=2, target_modules=TARGETS),
    "trex": ma.TRexConfig(num_down=2, num_up=3, target_modules=TARGETS),
    "momor": ma.MomorConfig(num_experts=[3, 3], r=2, target_modules=TARGETS),
    "smore": ma.SmoreConfig(num_experts=[3, 3], fanout=[2, 2], r=[2, 2], target_modules=TARGETS),
}


def named(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace(".default", ""): value for name, value in weights.items()}


@pytest.mark.parametrize("system", ADAPTERS)
def test_frozen_weights_are_in_half_precision_and_trained_ones_are_not(system: str, config, out: Path) -> None:
    run = ma.train(config(adapter=ADAPTERS[system], precision="bf16", steps=3), out)
    saved = named(load_file(run.path / "adapter" / "adapter_model.safetensors"))
    kept = named(run.model().state_dict())
    assert {value.dtype for value in saved.values()} == {torch.float32}
    assert all(torch.equal(kept[name], value) for name, value in saved.items())  # copied, not computed
    assert {value.dtype for name, value in kept.items() if name not in saved} == {torch.bfloat16}
    assert any((value != value.bfloat16().float()).any() for value in saved.values()), "no more than half precision"
    assert run.history["loss"].notna().all()


def test_a_half_precision_run_is_evaluated_later_as_while_it_trained(config, out: Path, suite: str) -> None:
    run = ma.train(config(adapter=ADAPTERS["moelora"], precision="bf16", eval_rows=None), out)
    later = evaluate_on(run, suite)
    assert later["accuracy"].tolist() == run.evaluation["accuracy"].tolist()
    assert later["loss"].to_numpy() == pytest.approx(run.evaluation["loss"].to_numpy(), rel=1e-3)


def test_the_precision_of_the_frozen_part_is_the_runs_and_compact_keeps_its_own(config) -> None:
    assert load_frozen(config())[0].dtype == torch.float32
    assert load_frozen(config(precision="bf16"))[0].dtype == torch.bfloat16
    assert load_frozen(config(precision="bf16", backbone="compact"))[0].dtype == torch.float32


def attention(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and gradient of one attention in bfloat16, with a mask as decoders have it."""
    torch.manual_seed(0)
    x = torch.randn(3, 2, 3, 9, 16, dtype=torch.bfloat16, requires_grad=True)  # (q k v, batch, heads, tokens, width)
    with attention_of(9, torch.device(kind), half=True):
        y = torch.nn.functional.scaled_dot_product_attention(*x, is_causal=True)
        y.float().pow(2).sum().backward()
    return y.detach(), x.grad


def test_short_rows_in_half_precision_have_the_attention_of_the_fused_kernel():
    for plain, fused in zip(attention("cpu"), attention("meta")):
        # a token that sees only itself has a gradient of zero: what is left there are roundings of the largest values
        torch.testing.assert_close(plain, fused, atol=0.05 * fused.abs().max().item(), rtol=0.05)


@pytest.mark.parametrize("tokens, half, plain", [(SHORT, True, True), (SHORT + 1, True, False), (9, False, False)])
def test_attention_changes_only_for_short_rows_in_half_precision(tokens, half, plain):
    before = torch.backends.cuda.flash_sdp_enabled()
    with attention_of(tokens, torch.device("cpu"), half):
        assert torch.backends.cuda.flash_sdp_enabled() == (before and not plain)
    assert torch.backends.cuda.flash_sdp_enabled() == before


def test_a_checkpointed_run_in_half_precision_trains(config, out):
    run = ma.train(config(adapter=ADAPTERS["moelora"], precision="bf16", gradient_checkpointing=True, steps=2), out)
    assert run.history["loss"].notna().all()
