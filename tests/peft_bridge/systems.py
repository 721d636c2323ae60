"""The six systems at their smallest, each with a balance loss where it can have one, in tiny models of every family."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor, nn

from moe_analysis.peft_bridge import CONFIGS, AdapterLayer
from tests.adapters.cases import randomize

SWITCH = {"r": 2, "gate": "switch", "balance_coef": 0.3}
OPTIONS: dict[str, dict[str, Any]] = {
    "moelora": {**SWITCH, "num_experts": 4, "top_k": 1},
    "sira": {**SWITCH, "num_experts": 4, "top_k": 2},
    "hydralora": {**SWITCH, "num_experts": 3, "top_k": 2},
    "trex": {"num_down": 2, "num_up": 3},
    "momor": {"r": 2, "num_experts": [3, 2], "top_k": [1, 1], "balance_coef": 0.3},
    "smore": {"r": 2, "num_experts": [3, 3], "fanout": [2, 1], "key_dim": 3, "down_dim": 4, "balance_coef": 0.3},
}


def calm(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with adapter weights that do something and magnify no rounding; the intuition has half of a routing."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0.0, 0.1 if parameter.dim() else 0.0)
    return model


def llama(**options: Any) -> nn.Module:
    """A random decoder of two layers, the same at every call."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {
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
        "attn_implementation": "eager",
    }
    return LlamaForCausalLM(LlamaConfig(**sizes | options)).eval()


def t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=40,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        dropout_rate=0.0,
    )
    return T5ForConditionalGeneration(config).eval()


def bart(head: str = "ConditionalGeneration") -> nn.Module:
    import transformers
    from transformers import BartConfig

    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=40,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        dropout=0.0,
    )
    return getattr(transformers, f"BartFor{head}")(config).eval()


def wav2vec2(**options: Any) -> nn.Module:
    """A model of sound: one frame for each 16 samples."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=10,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8, 8),
        conv_stride=(4, 4),
        conv_kernel=(4, 4),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        mask_time_prob=0.0,
        num_adapter_layers=1,
        **options,
    )
    return Wav2Vec2ForCTC(config).eval()


def bert(head: str = "SequenceClassification") -> nn.Module:
    import transformers
    from transformers import BertConfig

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return getattr(transformers, f"BertFor{head}")(config).eval()


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=8,
        patch_size=4,
        num_channels=1,
        hidden_dropout_prob=0.0,
    )
    return ViTForImageClassification(config).eval()


def clip() -> nn.Module:
    """Two towers; both see sequences of five: the words of a text and the patches of an image with one token more."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = sizes | {"vocab_size": 40, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2}
    vision = sizes | {"image_size": 8, "patch_size": 4}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()


def mixtral() -> nn.Module:
    """A decoder whose own blocks are mixtures of experts."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        pad_token_id=0,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    return MixtralForCausalLM(config).eval()


def mamba() -> nn.Module:
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    return MambaForCausalLM(MambaConfig(vocab_size=40, hidden_size=16, state_size=4, num_hidden_layers=1)).eval()


class Regrouping(nn.Module):
    """A model whose own block is a mixture of experts: each of its experts sees the tokens that chose it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.router = nn.Linear(16, 3)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        flat = x.reshape(-1, 16)
        chosen, out = self.router(flat).argmax(-1), torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero().flatten()
            out = out.index_add(0, rows, expert(flat[rows]))
        return out.view_as(x)


@dataclass
class Case:
    """One system, ready to be put into a model.

    Attributes:
        system: Its name in the registry.
        options: Of its configuration.
    """

    system: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        return self.system != "trex"

    @property
    def intuitive(self) -> bool:
        return self.system == "trex"

    def config(self, targets: Any = ("q_proj", "down_proj"), **options: Any) -> Any:
        targets = targets if isinstance(targets, str) else list(targets)
        return CONFIGS[self.system](target_modules=targets, **OPTIONS[self.system] | self.options | options)

    def model(self, base: nn.Module | None = None, targets: Any = ("q_proj", "down_proj"), **options: Any) -> Any:
        """The PEFT model in evaluation mode, every adapter weight random and the same at every call."""
        model = get_peft_model(base if base is not None else llama(), self.config(targets, **options)).eval()
        torch.manual_seed(1)
        randomize(model)
        return model

    def extra(self, samples: int = 2, seed: int = 0) -> dict[str, Tensor]:
        """What the system's forward needs beside the tokens: T-REX its intuition."""
        scores = torch.rand(samples, 6, generator=torch.Generator().manual_seed(seed)) * (seed + 1)
        return {"intuition": scores} if self.intuitive else {}

    def batch(self, samples: int = 2, seed: int = 0, padded: bool = True) -> dict[str, Tensor]:
        """Token ids, mask and labels of a batch, with what the system needs beside them."""
        generator = torch.Generator().manual_seed(seed + 10)
        ids = torch.randint(3, 40, (samples, 6), generator=generator)
        mask = torch.ones_like(ids)
        if padded:
            ids[-1, 4:], mask[-1, 4:] = 0, 0
        labels = ids.masked_fill(mask == 0, -100)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, **self.extra(samples, seed)}


def layers_of(model: nn.Module) -> dict[str, AdapterLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, AdapterLayer)}


def mask_seen(model: nn.Module, run: Callable[[], Any]) -> dict[str, torch.Tensor]:
    """The token mask that each layer with adapters was given in a run, by the layer's name."""
    seen, handles = {}, []
    for name, layer in layers_of(model).items():
        layer = layer.adapters["default"]
        handles.append(
            layer.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args[1].token_mask))
        )
    run()
    for handle in handles:
        handle.remove()
    return {name.removeprefix("base_model.model."): mask for name, mask in seen.items()}


def gradients(model: nn.Module, loss: Tensor) -> Tensor:
    """The gradient of a loss in one vector; the model's own gradients are left alone."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grads = torch.autograd.grad(loss, trained, allow_unused=True)
    pairs = zip(trained, grads, strict=True)
    return torch.cat([(torch.zeros_like(p) if grad is None else grad).flatten() for p, grad in pairs])


def collected(model: nn.Module) -> Tensor:
    """The gradients that a backward pass has left, in one vector."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained])


def twin(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def close(ours: Tensor, right: Tensor, tolerance: float = 1e-4) -> None:
    """Equal to rounding: the difference is small beside the whole vector, whose parts differ in size."""
    off = (ours - right).norm() / right.norm().clamp_min(1e-12)
    assert off < tolerance, f"relative error {off:.2e}"
