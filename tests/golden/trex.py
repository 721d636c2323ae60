"""Rebuild the cases of T-REX's authors: their five modes of one linear layer, on our modules."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from moe_analysis.adapters import Adapter, MoeLora, MoeLoraConfig, RoutingContext, Sira, SiraConfig, TRex, TRexConfig

SIRA_KEPT = 6  # hard-coded by the authors


def rebuild(description: dict, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """y and the gradients of sum(y · grad_y) in the authors' names and layouts."""
    mode, hyper = description["mode"], description["hyper"]
    builders = {"none": lora, "lora": mixture, "sira": mixture, "rank1": rank_one, "rank1_flex": rank_one}
    if mode not in builders:
        raise ValueError(f"mode {mode!r}")
    if hyper.get("lora_dropout"):
        raise ValueError("a case with dropout cannot be compared: its mask is not recorded")
    x = arrays["x"].clone().requires_grad_()
    base = torch.nn.functional.linear(x, arrays["W"], arrays.get("bias"))
    delta, weights = builders[mode](mode, hyper, arrays, x)
    y = base + delta
    (y * arrays["grad_y"]).sum().backward()
    grads = {f"grad_{name}": read(leaf.grad) for name, (leaf, read) in weights.items() if leaf.grad is not None}
    return {"y": y, "grad_x": x.grad, **grads}


def same(grad: Tensor) -> Tensor:
    return grad


def lora(mode: str, hyper: dict, arrays: dict[str, Tensor], x: Tensor):
    """Vanilla LoRA is PEFT's own; the frozen layer is zero so that the output is the update alone."""
    model = nn.Sequential(nn.Linear(x.shape[-1], arrays["B"].shape[0], bias=False).double())
    nn.init.zeros_(model[0].weight)
    config = LoraConfig(r=hyper["r"], lora_alpha=hyper["lora_alpha"], target_modules=["0"])
    layer = get_peft_model(model, config).base_model.model[0].double()
    A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    A.data, B.data = arrays["A"].clone(), arrays["B"].clone()
    return layer(x), {"A": (A, same), "B": (B, same)}


def mixture(mode: str, hyper: dict, arrays: dict[str, Tensor], x: Tensor):
    """LoRA-MoE and SiRA. Their ranks are tiled: row k·E + e of A belongs to expert e; they scale by 1."""
    experts, (ranks, width) = arrays["router"].shape[0], arrays["A"].shape
    shape = {"r": ranks // experts, "alpha": float(ranks // experts), "num_experts": experts}
    layer: Adapter = (
        Sira(width, arrays["B"].shape[0], SiraConfig(**shape, top_k=SIRA_KEPT))
        if mode == "sira"
        else MoeLora(width, arrays["B"].shape[0], MoeLoraConfig(**shape))
    ).double()
    layer.A.data = arrays["A"].unflatten(0, (-1, experts)).transpose(0, 1).contiguous()  # (r·E, in) -> (E, r, in)
    layer.B.data = arrays["B"].unflatten(1, (-1, experts)).permute(2, 0, 1).contiguous()  # (out, r·E) -> (E, out, r)
    layer.router.weight.data = arrays["router"].clone()
    return layer(x)[0], {
        "A": (layer.A, lambda grad: grad.transpose(0, 1).flatten(0, 1)),
        "B": (layer.B, lambda grad: grad.permute(1, 2, 0).flatten(1)),
        "router": (layer.router.weight, same),
    }


def rank_one(mode: str, hyper: dict, arrays: dict[str, Tensor], x: Tensor):
    """Rank-1 experts, diagonal (`rank1`) or mixed and matched (`rank1_flex`), with the ablations."""
    ablation = hyper.get("ablation")
    if ablation not in (None, "intuition", "rank1"):
        raise ValueError(f"ablation {ablation!r}")
    # the mapper exists, unused, where the ablation leaves the intuition out
    mapped = "mapper" in arrays and ablation != "intuition"
    config = TRexConfig(
        num_down=arrays["A"].shape[0],
        num_up=arrays["B"].shape[1],
        pairing="diagonal" if mode == "rank1" else "mix_and_match",
        intuition=ablation != "intuition",
        router=ablation != "rank1",
        intuition_mapper=mapped,
        num_clusters=arrays["mapper"].shape[1] if mapped else None,
        temperature=float(hyper["omega_temperature"]),
        router_coef=float(hyper["token_coefficient"]),
        intuition_coef=float(hyper["task_coefficient"]),
    )
    if hyper["omega_temperature"] != hyper["output_gate_temperature"]:
        raise ValueError("two temperatures")
    layer = TRex(x.shape[-1], arrays["B"].shape[0], config).double()
    given = {"A": layer.A, "B": layer.B, "omg_w": layer.omega_logit, "outgate_w": layer.output_logit}
    if config.router:
        given["router"] = layer.router.weight
    if mapped:
        given["mapper"] = layer.mapper.weight
    for name, parameter in given.items():
        parameter.data = arrays[name].reshape(parameter.shape).clone()
    weights = {name: (parameter, same) for name, parameter in given.items()}
    context = None
    if config.intuition:
        intuition = arrays["intuition"].clone().requires_grad_()
        context, weights["intuition"] = RoutingContext(intuition), (intuition, same)
    return layer(x, context)[0], weights
