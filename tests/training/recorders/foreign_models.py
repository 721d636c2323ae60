"""Small random mixtures of experts that are not ours, one of each kind, and how their routers choose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import torch
from peft.tuners.lora import ArrowConfig, create_arrow_model
from torch import Tensor, nn

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def mixtral() -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2))


def olmoe() -> nn.Module:
    from transformers import OlmoeConfig, OlmoeForCausalLM

    return OlmoeForCausalLM(OlmoeConfig(**SIZES, num_experts=6, num_experts_per_tok=3, norm_topk_prob=False))


def qwen3_moe() -> nn.Module:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "head_dim": 8}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **sizes, norm_topk_prob=True, decoder_sparse_step=1))


def qwen2_moe() -> nn.Module:
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    sizes = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
    return Qwen2MoeForCausalLM(Qwen2MoeConfig(**SIZES, **sizes, shared_expert_intermediate_size=8))


def deepseek_v3() -> nn.Module:
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    ranks = {"kv_lora_rank": 4, "q_lora_rank": 4, "qk_rope_head_dim": 4, "v_head_dim": 8, "qk_nope_head_dim": 4}
    groups = {"n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2, "n_shared_experts": 1}
    options = {"first_k_dense_replace": 1, "moe_intermediate_size": 8, "routed_scaling_factor": 2.5}
    return DeepseekV3ForCausalLM(DeepseekV3Config(**SIZES | {"num_hidden_layers": 3}, **ranks, **groups, **options))


def gpt_oss() -> nn.Module:
    from transformers import GptOssConfig, GptOssForCausalLM

    sizes = {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 16}
    return GptOssForCausalLM(GptOssConfig(**SIZES, **sizes, attn_implementation="eager"))


def llama4() -> nn.Module:
    from transformers import Llama4ForCausalLM, Llama4TextConfig

    sizes = {"num_local_experts": 4, "num_experts_per_tok": 1, "head_dim": 8, "intermediate_size_mlp": 24}
    return Llama4ForCausalLM(Llama4TextConfig(**SIZES, **sizes, interleave_moe_layer_step=1))


def switch() -> nn.Module:
    from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

    sizes = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_heads": 2, "num_layers": 2, "num_decoder_layers": 2}
    sparse = {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 4, "expert_capacity": 64}
    still = {"dropout_rate": 0.0, "router_jitter_noise": 0.0, "pad_token_id": 0, "decoder_start_token_id": 0}
    config = SwitchTransformersConfig(vocab_size=40, **sizes, **sparse, **still)
    return SwitchTransformersForConditionalGeneration(config)


MODELS: dict[str, Callable[[], nn.Module]] = {
    one.__name__: one for one in (mixtral, olmoe, qwen3_moe, qwen2_moe, deepseek_v3, gpt_oss, llama4, switch)
}
TOP_K = {
    "mixtral": 2,
    "olmoe": 3,
    "qwen3_moe": 2,
    "qwen2_moe": 2,
    "deepseek_v3": 3,
    "gpt_oss": 2,
    "llama4": 1,
    "switch": 1,
}


def foreign(kind: str) -> nn.Module:
    """A model of the kind, its routers random and far from ties."""
    torch.manual_seed(0)
    model = MODELS[kind]()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "router" in name or name.endswith("mlp.gate.weight"):
                parameter.normal_()
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.normal_(std=0.3)
    return model


def independent_gates(kind: str, module: Any, x: Tensor) -> Tensor:
    """x (tokens, in) -> gates (tokens, experts) by the papers' formulas, from the router's own matrix alone."""
    if kind == "switch":
        shares = (x @ module.classifier.weight.T).softmax(-1)
        return shares * (shares == shares.max(-1, keepdim=True).values)
    logits = x @ module.weight.T
    if kind == "gpt_oss":
        logits = logits + module.bias
        return logits.masked_fill(~largest(logits, module.top_k), -torch.inf).softmax(-1)
    if kind == "llama4":
        return logits.sigmoid() * largest(logits, module.top_k)
    if kind == "deepseek_v3":
        scores = logits.sigmoid()
        wished = (scores + module.e_score_correction_bias).unflatten(-1, (module.num_group, -1))
        groups = largest(wished.sort(-1).values[..., -2:].sum(-1), module.topk_group)
        kept = scores * largest(wished.masked_fill(~groups[..., None], -torch.inf).flatten(-2), module.top_k)
        return module.routed_scaling_factor * kept / kept.sum(-1, keepdim=True)
    shares = logits.softmax(-1)
    kept = shares * largest(shares, module.top_k)
    normalized = kind == "mixtral" or module.norm_topk_prob
    return kept / kept.sum(-1, keepdim=True) if normalized else kept


def largest(values: Tensor, k: int) -> Tensor:
    """True at the k largest of the last dimension, by sorting."""
    return values >= values.sort(-1, descending=True).values[..., k - 1 : k]


def batch(seed: int = 0) -> dict[str, Tensor]:
    """Two texts of seven tokens, the second padded by three; labels of the real ones."""
    ids = torch.randint(3, 40, (2, 7), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    ids[1, 4:], mask[1, 4:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def saved_loras(base: Callable[[], nn.Module], folder: Path, count: int = 3) -> dict[str, str]:
    """Random LoRA adapters of a model on disk: {name: folder}."""
    for number in range(count):
        torch.manual_seed(number)
        model = peft.get_peft_model(base(), peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
        model.save_pretrained(folder / str(number))
    return {str(number): str(folder / str(number)) for number in range(count)}


def xlora(base: Callable[[], nn.Module], folder: Path, **options: Any) -> Any:
    """An X-LoRA of three adapters whose classifier is random."""
    inner = base()
    inner.config.use_cache = False
    config = peft.XLoraConfig(
        task_type="CAUSAL_LM", hidden_size=16, adapters=saved_loras(base, folder), xlora_depth=1, **options
    )
    model = peft.get_peft_model(inner, config)
    with torch.no_grad():
        for parameter in model.base_model.internal_xlora_classifier.parameters():
            parameter.normal_()
    return model


def arrow(base: Callable[[], nn.Module], folder: Path) -> Any:
    """An Arrow router over three adapters, two of them for each token."""
    paths = list(saved_loras(base, folder).values())
    return create_arrow_model(base(), paths, ArrowConfig(top_k=2, router_temperature=0.5))


class Words:
    """A tokenizer of words that knows 37 of them: a word's length and letters choose its number."""

    pad_token_id, bos_token_id, eos_token_id, model_max_length = 0, 1, 2, int(1e30)

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1, *(3 + sum(map(ord, word)) % 37 for word in text.split())] for text in texts]}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"w{number}" for number in ids]

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(f"w{number}" for number in ids)


def inputs_of(module: nn.Module, model: nn.Module, **options: Any) -> SimpleNamespace:
    """What a module was given and gave when the model was called."""
    seen = SimpleNamespace()

    def keep(_: Any, args: Any, kwargs: Any, output: Any) -> None:
        seen.args, seen.options, seen.output = args, kwargs, output

    handle = module.register_forward_hook(keep, with_kwargs=True)
    seen.result = model(**options)
    handle.remove()
    return seen
