"""The six systems as PEFT configurations: the adapter's own fields, explained in `adapters`, and PEFT's.

They are written out, so that an editor shows and checks their fields.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from peft import PeftConfig, PeftType
from peft.utils import CONFIG_NAME

from .. import adapters
from ..atomic import write_whole
from ..base_name import local_name
from ..model_card import hide_base_path, write_card
from .reader import IntuitionHalf
from .tuner import LAYOUT


@dataclass
class PeftHalf(PeftConfig):
    """PEFT's own fields, with PEFT's meaning.

    Args:
        layout: Of the keys in a checkpoint; filled in, as peft_version is. None: written by version 0.1.
    """

    system: ClassVar[str]

    exclude_modules: list[str] | str | None = field(default=None)
    layers_to_transform: list[int] | int | None = field(default=None)
    layers_pattern: list[str] | str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)
    layout: int | None = field(default=None)

    def __post_init__(self) -> None:
        if self.layout is None and self.peft_version is None:
            self.layout = LAYOUT
        super().__post_init__()
        self.peft_type = PeftType(self.system.upper())
        # read from a checkpoint it is a public name, which PEFT would ask the hub for whenever the adapter is saved
        self.base_model_name_or_path = local_name(self.base_model_name_or_path)
        for name in ("target_modules", "exclude_modules"):
            if isinstance(value := getattr(self, name), (list, tuple)):
                setattr(self, name, set(value))
        self.check()

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write adapter_config.json, the base model by its public name, and a model card that says what this is."""
        super().save_pretrained(save_directory, **kwargs)
        path = Path(save_directory) / CONFIG_NAME
        values = json.loads(path.read_text("utf-8")) | {"peft_type": stored_type(self.system)}
        write_whole(path, json.dumps(values, indent=2, sort_keys=True))
        hide_base_path(save_directory)
        write_card(save_directory, self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, sets as sorted lists, so that equal configurations read equal on disk."""
        return {key: sorted(value) if isinstance(value, set) else value for key, value in super().to_dict().items()}


def stored_type(name: str) -> str:
    """The type as a checkpoint has it: without our import PEFT and transformers fail, with this as their message."""
    return f"{name.upper()} (import moe_analysis before PEFT or transformers loads it)"


@dataclass
class TRexConfig(PeftHalf, IntuitionHalf, adapters.TRexConfig):
    """T-REX: rank-1 experts mixed and matched, routed by the token and by what the prompt is about.

    The fields are those of `adapters.TRexConfig`, where they are explained, and PEFT's.

    Example:
        >>> config = ma.TRexConfig(num_down=4, num_up=8, target_modules=["q_proj", "v_proj"])
        >>> config.peft_type.value, sorted(config.target_modules)
        ('TREX', ['q_proj', 'v_proj'])
    """

    system = "trex"


@dataclass
class MoeLoraConfig(PeftHalf, adapters.MoeLoraConfig):
    """LoRA-MoE: a mixture of rank-r experts with softmax, switch, noisy top-k or dense gates.

    The fields are those of `adapters.MoeLoraConfig`, where they are explained, and PEFT's.

    Example:
        >>> config = ma.MoeLoraConfig(num_experts=8, top_k=2, gate="switch", target_modules=["q_proj", "v_proj"])
        >>> config.peft_type.value, sorted(config.target_modules)
        ('MOELORA', ['q_proj', 'v_proj'])
    """

    system = "moelora"


@dataclass
class SiraConfig(PeftHalf, adapters.SiraConfig):
    """SiRA as T-REX compares with it: the top 6 of 8 routing weights kept.

    The fields are those of `adapters.SiraConfig`, where they are explained, and PEFT's.

    Example:
        >>> config = ma.SiraConfig(r=4, target_modules=["q_proj", "v_proj"])
        >>> config.peft_type.value, sorted(config.target_modules)
        ('SIRA', ['q_proj', 'v_proj'])
    """

    system = "sira"


@dataclass
class HydraLoraConfig(PeftHalf, adapters.HydraLoraConfig):
    """HydraLoRA: one down factor for all experts, an up factor for each.

    The fields are those of `adapters.HydraLoraConfig`, where they are explained, and PEFT's.

    Example:
        >>> config = ma.HydraLoraConfig(num_experts=3, target_modules=["q_proj", "v_proj"])
        >>> config.peft_type.value, sorted(config.target_modules)
        ('HYDRALORA', ['q_proj', 'v_proj'])
    """

    system = "hydralora"


@dataclass
class MomorConfig(PeftHalf, adapters.MomorConfig):
    """MoMOR: pools of experts of several ranks, without trees.

    The fields are those of `adapters.MomorConfig`, where they are explained, and PEFT's.

    Example:
        >>> config = ma.MomorConfig(num_experts=[4, 4], top_k=[2, 2], target_modules=["q_proj", "v_proj"])
        >>> config.peft_type.value, sorted(config.target_modules)
        ('MOMOR', ['q_proj', 'v_proj'])
    """

    system = "momor"


@dataclass
class SmoreConfig(PeftHalf, adapters.SmoreConfig):
    """S'MoRE: a tree of residual experts, layer by layer.

    The fields are those of `adapters.SmoreConfig`, where they are explained, and PEFT's.

    Example:
        >>> config = ma.SmoreConfig(num_experts=[4, 4], fanout=[2, 2], target_modules=["q_proj", "v_proj"])
        >>> config.peft_type.value, sorted(config.target_modules)
        ('SMORE', ['q_proj', 'v_proj'])
    """

    system = "smore"


WRITTEN: dict[str, type[PeftHalf]] = {
    config.system: config
    for config in (HydraLoraConfig, MoeLoraConfig, MomorConfig, SiraConfig, SmoreConfig, TRexConfig)
}
