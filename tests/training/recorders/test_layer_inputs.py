"""Inputs, gates and output gradients of adapted layers, against the gradients of the parameters themselves."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model

import moe_analysis as ma
from moe_analysis.peft_bridge import adapter_modules
from moe_analysis.tasks.batches import collate, encode
from moe_analysis.training.recorders.routing import layer_batches


@pytest.fixture
def parts(backbone, suite):
    """(a PEFT model with random experts, its tokenizer, five rows of unequal length)."""
    base, tokenizer = ma.load_backbone(backbone, torch.float32)
    config = ma.MoeLoraConfig(num_experts=3, top_k=2, r=2, dropout=0.5, target_modules=["q_proj", "down_proj"])
    model = get_peft_model(base, config)
    for adapter in adapter_modules(model).values():
        torch.nn.init.normal_(adapter.B, std=0.1)
    return model, tokenizer, ma.load_suite(suite).head(5)


def test_inputs_and_gradients_give_the_gradients_of_the_factors(parts):
    model, tokenizer, frame = parts
    batches = layer_batches(model, tokenizer, frame)
    model.eval()
    examples = encode(frame, tokenizer, 256)
    model(**collate(examples, tokenizer.pad_token_id)).loss.backward()
    assert list(batches) == list(adapter_modules(model)) and len(batches) == 4
    tokens = sum(len(example.input_ids) for example in examples)
    for layer in batches.values():
        A, B, s = layer.adapter.A.double(), layer.adapter.B.double(), layer.adapter.scaling
        assert layer.inputs.shape[0] == layer.gates.shape[0] == tokens and layer.inputs.dtype == torch.float64
        for expert in range(3):
            pulled = s * layer.gates[:, expert, None] * layer.gradient  # (tokens, out)
            for factor, expected in (
                (layer.adapter.B, pulled.T @ layer.inputs @ A[expert].T),
                (layer.adapter.A, B[expert].T @ pulled.T @ layer.inputs),
            ):
                torch.testing.assert_close(factor.grad[expert].double(), expected.detach(), rtol=1e-3, atol=1e-7)


def test_a_model_loaded_for_inference_serves_and_is_left_as_it_was(parts):
    model, tokenizer, frame = parts
    model.requires_grad_(False)
    model.train()
    name = "layers.1.self_attn.q_proj"
    batch = layer_batches(model, tokenizer, frame, [name])[name]
    assert batch.adapter is adapter_modules(model)[name] and float(batch.gradient.norm()) > 0
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert not any(adapter._forward_hooks for adapter in adapter_modules(model).values())


def test_a_module_that_is_not_adapted_is_refused(parts):
    model, tokenizer, frame = parts
    with pytest.raises(ValueError, match=r"modules \['lm_head'\] are not adapted; choose from layers.0.self_attn.q_pr"):
        layer_batches(model, tokenizer, frame, ["lm_head"])


def test_a_model_without_adapters_is_refused(parts):
    model, tokenizer, frame = parts
    with pytest.raises(ValueError, match="has no routed adapter"):
        layer_batches(model.unload(), tokenizer, frame)
