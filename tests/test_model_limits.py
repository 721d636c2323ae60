"""What a language model reads is found out on small models of many families: direction, places, vocabulary."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

from moe_analysis import model_limits
from moe_analysis.model_limits import check_causal, check_reads, most_tokens, sees_ahead
from tests.peft_bridge.systems import llama, mixtral, t5

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
GPT = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24}
MAMBA = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
OPT = {name: value for name, value in SIZES.items() if name != "intermediate_size"}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT2LMHeadModel": ("GPT2Config", GPT),
    "GPTJForCausalLM": ("GPTJConfig", GPT | {"rotary_dim": 4}),
    "OPTForCausalLM": ("OPTConfig", OPT | {"word_embed_proj_dim": 16, "ffn_dim": 24}),
    "BertLMHeadModel": ("BertConfig", SIZES | {"is_decoder": True}),
    "RobertaForCausalLM": ("RobertaConfig", SIZES | {"is_decoder": True, "pad_token_id": 1}),
    "LlamaForCausalLM": ("LlamaConfig", SIZES),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", SIZES),
    "MambaForCausalLM": ("MambaConfig", MAMBA),
}


def made(name: str, **changes: Any) -> nn.Module:
    config, options = FAMILIES[name]
    torch.manual_seed(0)
    return getattr(transformers, name)(getattr(transformers, config)(**options | changes)).eval()


@torch.no_grad()
def reads(model: nn.Module, length: int) -> bool:
    ids = torch.randint(3, 40, (1, length))
    try:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_reads_as_many_tokens_as_it_has_places_for_and_no_more(name: str) -> None:
    model = made(name)
    most = most_tokens(model)
    assert reads(model, most or 40) and reads(model, (most or 40) + 1) == (most is None)
    assert (most is None) == (name in ("LlamaForCausalLM", "GPTNeoXForCausalLM", "MambaForCausalLM"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_decoder_of_any_family_reads_from_left_to_right(name: str) -> None:
    assert not sees_ahead(made(name)) and not sees_ahead(made(name).bfloat16())


def test_a_backbone_of_experts_reads_from_left_to_right() -> None:
    assert not sees_ahead(mixtral())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["BertLMHeadModel", "RobertaForCausalLM"])
def test_an_encoder_reads_from_both_sides_in_every_precision(name: str, dtype: torch.dtype) -> None:
    model = made(name, is_decoder=False).to(dtype)
    assert sees_ahead(model)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"model = {name} reads from both sides"):
            check_causal(model)


def test_an_encoder_that_does_not_say_so_is_found_out() -> None:
    model = made("BertLMHeadModel", is_decoder=False)
    del model.config.is_decoder
    assert sees_ahead(model)


def test_an_encoder_with_a_decoder_is_no_causal_model() -> None:
    with pytest.raises(ValueError, match="has an encoder and a decoder"):
        check_causal(t5())


def test_experts_that_drop_tokens_of_one_row_for_another_are_not_taken_for_an_encoder() -> None:
    model = llama()

    def crowded(_: nn.Module, inputs: Any, output: Any) -> Any:
        output.logits[1:] *= 0.5  # of later rows, what the first one leaves
        return output

    model.register_forward_hook(crowded)
    assert not sees_ahead(model)


def test_a_model_is_tried_once_and_forgotten_with_its_last_user(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(model_limits, "sees_ahead", lambda model: bool(tried.append(id(model))))
    model = llama()
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    check_causal(model), check_causal(model), check_causal(adapted)
    assert tried == [id(model)]
    gone = weakref.ref(model)
    del model, adapted
    gc.collect()
    assert gone() is None


def test_a_row_that_is_too_long_and_a_token_that_is_unknown_are_named_with_the_remedy() -> None:
    model = made("GPT2LMHeadModel")
    check_reads(model, 24, 39, 256)
    with pytest.raises(ValueError, match="max_length = 256 allows rows of 25 tokens, .* pass max_length=24"):
        check_reads(model, 25, 39, 256)
    with pytest.raises(ValueError, match="tokenizer makes the token 40, but GPT2LMHeadModel knows 40 tokens"):
        check_reads(model, 24, 40, 256)
    check_reads(llama(), 10**6, 39, 10**6)
