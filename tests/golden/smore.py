"""Rebuild the cases of S'MoRE on our module: output, routing, balance loss and every gradient."""

from __future__ import annotations

import re
from unittest import mock

import torch
from torch import Tensor, nn

from moe_analysis.adapters import RoutingContext, Smore, SmoreConfig
from moe_analysis.adapters.smore import TreeRouting

POSITIONS = {"all": "all", "child": "child", "child_v2": "child_scored"}
PARTS = {"down": "downproj_x", "W_proj": "W_final", "W_proj_bias": "W_final_bias"}


def rebuild(description: dict, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything under the names that the case uses for it."""
    layer = build(description, arrays)
    names = {f"p:{ours_to_case(name)}": value for name, value in layer.named_parameters()}
    given = {name for name in arrays if name.startswith("p:")}
    if given != set(names):
        raise ValueError(f"parameters differ: {sorted(given ^ set(names))}")
    for name, parameter in names.items():
        parameter.data = arrays[name].reshape(parameter.shape).clone()
    x = arrays["x"].clone().requires_grad_()
    mask = arrays["attention_mask"].bool() if "attention_mask" in arrays else None
    with mock.patch("torch.randn_like", recorded_noise(arrays, description["dims"]["d_layers"])):
        delta, routing = layer(x, RoutingContext(token_mask=mask))
    y = nn.functional.linear(x, arrays["W_base"], arrays.get("bias_base")) + delta
    results = {"y": y, **routed(routing, mask)}
    gradients = torch.autograd.grad(
        (y * arrays["grad_y"]).sum(), [x, *names.values()], retain_graph=True, allow_unused=True, materialize_grads=True
    )
    results |= {f"g:{name[2:]}": grad for name, grad in zip(names, gradients[1:], strict=True)}
    results["grad_x"] = gradients[0]
    if routing.balance_loss is not None:
        results["balance_loss"] = routing.balance_loss
        balance = torch.autograd.grad(
            routing.balance_loss, [x, *names.values()], allow_unused=True, materialize_grads=True
        )
        results |= {f"gbal:{name[2:]}": grad for name, grad in zip(names, balance[1:], strict=True)}
        results["bal_grad_x"] = balance[0]
    return results


def build(description: dict, arrays: dict[str, Tensor]) -> Smore:
    hyper, dims = description["hyper"], description["dims"]
    pool = hyper["is_shared_expert_pool"]
    dense = hyper["gate_type"] == "dense"
    config = SmoreConfig(
        r=hyper["r"],
        alpha=hyper.get("lora_alpha"),
        num_experts=hyper["s"],
        fanout=hyper["s"] if dense else hyper["f"],
        key_dim=hyper["d_g"],
        down_dim=hyper["dim_downproj_x"] if hyper["dim_downproj_x"] > 0 else None,
        gate=hyper["gate_type"],
        gate_arch=hyper["gate_arch"],
        activation=hyper["expert_act_fn"].split("|")[0],
        router_activation=hyper["gate_act_fn"].split("|")[0],
        shared_pool=pool,
        activation_position=POSITIONS[hyper["activation_position"]],
        balance_coef=None if dense else hyper["balance_loss_weight"],
        gate_dtype="float32",
    )
    layer = Smore(dims["d_in"], dims["d_out"], config).double().train(description["train_mode"])
    if config.widths != dims["d_layers"]:
        raise ValueError(f"layer widths {config.widths} are not the case's {dims['d_layers']}")
    return layer


def ours_to_case(name: str) -> str:
    """Our parameter's name as the case writes it."""
    name = re.sub(r"^activations\.(\d+)\.weight$", r"expert_act_param.\1", name)
    name = re.sub(r"^gates\.(\d+)\.noise\.", r"gate.\1.weight_noise.", name)
    name = re.sub(r"^gates\.", "gate.", name)
    head, dot, tail = name.partition(".")
    return PARTS.get(head, head) + dot + tail


def recorded_noise(arrays: dict[str, Tensor], widths: list[int]):
    """torch.randn_like that hands out the case's noise; the gates draw from the top layer down."""
    draws = iter([arrays[f"noise.{layer}"] for layer in reversed(range(len(widths) - 1)) if f"noise.{layer}" in arrays])
    return lambda like: next(draws).reshape(like.shape)


def routed(routing: TreeRouting, mask: Tensor | None) -> dict[str, Tensor]:
    """Ids, scores, and by expert the importance (sum of scores) and load (times chosen) over the real tokens."""
    results: dict[str, Tensor] = {}
    for layer, choice in enumerate(routing.choices):
        results[f"route_ids.{layer}"], results[f"route_scores.{layer}"] = choice.ids, choice.scores
        real = choice.weights if mask is None else choice.weights[mask.reshape(-1)]  # (tokens, P, s)
        results[f"importance.{layer}"], results[f"load.{layer}"] = real.sum((0, 1)), (real > 0).sum((0, 1))
    return results


def recorded(description: dict, arrays: dict[str, Tensor]) -> set[str]:
    """The arrays that are compared. A switch gate has no importance (the case holds a zero in its place), and the
    smooth load of noisy training is compared through the balance loss and its gradients."""
    wanted = {
        key
        for key in arrays
        if key in ("y", "grad_x", "balance_loss", "bal_grad_x")
        or key.startswith(("g:", "gbal:", "route_", "importance.", "load."))
    }
    noisy = description["hyper"]["gate_type"] == "noisy_topk"
    left_out = ("load.",) if noisy and description["train_mode"] else () if noisy else ("importance.",)
    return {key for key in wanted if not key.startswith(left_out)} if left_out else wanted
