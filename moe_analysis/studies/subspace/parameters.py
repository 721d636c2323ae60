"""Trainable parameters counted on the modules: of a layer, of a backbone, and compared with the span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from ...adapters import MoeLora, MoeLoraConfig, Sira, SiraConfig, TRex, TRexConfig

PAPER_EXPERTS, PAPER_RANK = 8, 4  # LoRA-MoE and SiRA of T-REX's comparison, against 4 down and 8 up vectors
PAPER_DOWN, PAPER_UP = 4, 8
LAYERS = {
    "square, 4096 to 4096": (4096, 4096),
    "grouped-query value, 4096 to 1024": (4096, 1024),
    "feed-forward up, 4096 to 11008": (4096, 11008),
    "feed-forward down, 11008 to 4096": (11008, 4096),
}


def trainable(module: Any) -> int:
    """Number of trainable parameters of a torch module."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def backbone_parameters(base: Any, configs: Mapping[str, Any], reference: str = "T-REX") -> pd.DataFrame:
    """Adapter parameters of each PEFT configuration on a copy of `base`, the model to adapt.

    Columns method, parameters, saving: the share that `reference` saves against the method (negative: it costs more).
    Raises ValueError if configs does not have the reference.

    >>> from moe_analysis.presets import methods
    >>> backbone_parameters(base, methods()).round(3)
              method  parameters  saving
    0           LoRA       16384  -1.751
    1       LoRA-MoE       73728   0.389
    2           SiRA       73728   0.389
    3  mix-and-match       45072   0.000
    4          T-REX       45072   0.000
    """
    if reference not in configs:
        raise ValueError(f"reference = {reference!r} is not one of the methods {', '.join(configs)}; add it")
    counts = {name: trainable(get_peft_model(deepcopy(base), config)) for name, config in configs.items()}
    return _with_saving(pd.DataFrame({"method": list(counts), "parameters": list(counts.values())}), reference)


def layer_parameters(layers: Mapping[str, tuple[int, int]] | None = None) -> pd.DataFrame:
    """T-REX's comparison with its authors' sizes on layers of given (in_features, out_features).

    8 experts of rank 4 (LoRA-MoE, SiRA) are compared with 4 down and 8 up vectors (T-REX).
    Columns layer, method, factor_parameters, router_parameters (with T-REX's scalars), parameters, and saving as in
    `backbone_parameters`. Modules are on the meta device, so no memory is allocated.

    >>> layer_parameters({"square": (128, 128)})[["method", "parameters", "saving"]].round(3)
         method  parameters  saving
    0  LoRA-MoE        9216   0.389
    1      SiRA        9216   0.389
    2     T-REX        5634   0.000
    """
    frames = []
    for layer, (width, height) in (LAYERS if layers is None else layers).items():
        with torch.device("meta"):
            modules = paper_modules(width, height)
        rows = [
            (layer, name, module.A.numel() + module.B.numel(), trainable(module)) for name, module in modules.items()
        ]
        frame = pd.DataFrame(rows, columns=["layer", "method", "factor_parameters", "parameters"])
        frame.insert(3, "router_parameters", frame["parameters"] - frame["factor_parameters"])
        frames.append(_with_saving(frame, "T-REX"))
    return pd.concat(frames, ignore_index=True)


def paper_modules(in_features: int, out_features: int) -> dict[str, Any]:
    """The modules of T-REX's comparison, with the sizes of its authors' code."""
    mixture = MoeLoraConfig(num_experts=PAPER_EXPERTS, r=PAPER_RANK)
    sira = SiraConfig(num_experts=PAPER_EXPERTS, r=PAPER_RANK)
    trex = TRexConfig(num_down=PAPER_DOWN, num_up=PAPER_UP)
    return {
        "LoRA-MoE": MoeLora(in_features, out_features, mixture),
        "SiRA": Sira(in_features, out_features, sira),
        "T-REX": TRex(in_features, out_features, trex),
    }


def _with_saving(frame: pd.DataFrame, reference: str) -> pd.DataFrame:
    own = int(frame.loc[frame["method"] == reference, "parameters"].iloc[0])
    return frame.assign(saving=1 - own / frame["parameters"])


def parameters_of_sizes(sizes: Sequence[tuple[int, int, int]], in_features: int, out_features: int) -> pd.DataFrame:
    """Span and parameters of T-REX layers, for sizes (I, J, measured span) as in `rank_plot_frame`.

    Columns system, I, J, experts, span, factor_parameters, parameters (with router and scalars), one row per size; then
    for comparison LoRA-MoE with 1 to max(I) rank-1 experts and LoRA of these ranks, with their spans E and 1.

    >>> parameters_of_sizes([(2, 2, 4)], 128, 128)[["system", "experts", "span", "parameters"]]
         system  experts  span  parameters
    0     T-REX        4     4        1026
    1  LoRA-MoE        1     1         384
    2      LoRA        1     1         256
    3  LoRA-MoE        2     2         768
    4      LoRA        1     1         512
    """
    pair, rows = in_features + out_features, []
    with torch.device("meta"):
        for num_down, num_up, span in sizes:
            layer = TRex(in_features, out_features, TRexConfig(num_down=num_down, num_up=num_up))
            factors = layer.A.numel() + layer.B.numel()
            rows.append(("T-REX", num_down, num_up, num_down * num_up, span, factors, trainable(layer)))
        for number in range(1, max(size[0] for size in sizes) + 1):
            mixture = MoeLora(in_features, out_features, MoeLoraConfig(num_experts=number, r=1))
            rows.append(("LoRA-MoE", number, number, number, number, number * pair, trainable(mixture)))
            rows.append(("LoRA", number, number, 1, 1, number * pair, number * pair))
    return pd.DataFrame(rows, columns=["system", "I", "J", "experts", "span", "factor_parameters", "parameters"])


def figure1_parameters(in_features: int, out_features: int, num_down: int = 2, num_up: int = 3) -> pd.DataFrame:
    """Fig. 1: num_down·num_up experts in each system, trainable parameters counted on the real modules.

    Columns system, down_vectors, up_vectors, experts, factor_parameters, other_parameters (router, scalars)
    and parameters.
    LoRA is PEFT's own with rank num_down·num_up; LoRA-MoE has the same number of rank-1 experts.

    >>> figure1_parameters(128, 128)[["system", "experts", "factor_parameters", "parameters"]]
         system  experts  factor_parameters  parameters
    0      LoRA        1               1536        1536
    1  LoRA-MoE        6               1536        2304
    2     T-REX        6                640        1410
    """
    experts, layer = num_down * num_up, (in_features, out_features)
    linear = nn.Sequential(nn.Linear(*layer, bias=False))
    systems = {
        "LoRA": (experts, experts, 1, get_peft_model(linear, LoraConfig(r=experts, target_modules=["0"]))),
        "LoRA-MoE": (experts, experts, experts, MoeLora(*layer, MoeLoraConfig(num_experts=experts, r=1))),
        "T-REX": (num_down, num_up, experts, TRex(*layer, TRexConfig(num_down=num_down, num_up=num_up))),
    }
    rows = []
    for system, (down, up, count, module) in systems.items():
        row = {"system": system, "down_vectors": down, "up_vectors": up, "experts": count}
        factors, total = down * in_features + up * out_features, trainable(module)
        rows.append({**row, "factor_parameters": factors, "other_parameters": total - factors, "parameters": total})
    return pd.DataFrame(rows)
