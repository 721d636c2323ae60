"""The updates written as loops over tokens and experts, straight from the formulas, to hold the modules against.

Nothing here is shared with the package: numpy in float64, one expert's matrix at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = [math.exp(value - max(logits)) for value in logits]
    return np.array(exponentials) / sum(exponentials)


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def array(parameter) -> np.ndarray:
    return parameter.detach().numpy()


def mixture_gates(config, router: np.ndarray, token: np.ndarray) -> np.ndarray:
    """Gates of one token in evaluation mode, (E,)."""
    logits = np.array([row @ token for row in router])
    k = config.num_experts if config.top_k is None else config.top_k
    chosen = sorted(range(len(logits)), key=lambda expert: -logits[expert])[:k]
    gates = np.zeros(len(logits))
    if config.gate == "noisy_topk":
        gates[chosen] = softmax(logits[chosen])
        return gates
    gates[chosen] = softmax(logits)[chosen]
    renormalise = config.normalize_gates
    if renormalise is None:
        renormalise = not (config.gate == "switch" and k == 1)
    return gates / gates.sum() if renormalise else gates


def moe_lora(layer, x: np.ndarray, intuition: np.ndarray | None) -> np.ndarray:
    """(alpha / r) Σ_e g_e B_e A_e x, for x (batch, tokens, in)."""
    config, A, B = layer.config, array(layer.A), array(layer.B)
    delta = np.zeros((*x.shape[:-1], B.shape[1]))
    for place in np.ndindex(x.shape[:-1]):
        gates = mixture_gates(config, array(layer.router.weight), x[place])
        for expert, gate in enumerate(gates):
            update = B[expert] @ A[expert]  # (out, in)
            delta[place] += config.alpha / config.r * gate * (update @ x[place])
    return delta


def trex_routing(layer, token: np.ndarray, scores: np.ndarray | None) -> np.ndarray:
    """Weights of one token's experts, flat: softmax(router x)·ω·32 + intuition·(1 − ω)·4 with the default constants."""
    config = layer.config
    omega = sigmoid(config.temperature * layer.omega_logit.item())
    count = config.num_down if config.pairing == "diagonal" else config.num_down * config.num_up
    weights = np.zeros(count)
    if config.router:
        weights += config.router_coef * omega * softmax(array(layer.router.weight) @ token)
    if scores is not None:
        prior = array(layer.mapper.weight) @ scores if config.intuition_mapper else scores
        weights += config.intuition_coef * (1 - omega) * prior
    return weights


def trex(layer, x: np.ndarray, intuition: np.ndarray | None) -> np.ndarray:
    """s Σ_ij G_ij b_j a_iᵀ x, every rank-1 expert as a matrix of its own, for x (batch, tokens, in)."""
    config, A, B = layer.config, array(layer.A), array(layer.B)
    scale = sigmoid(config.temperature * layer.output_logit.item())
    delta = np.zeros((*x.shape[:-1], B.shape[0]))
    for sample, position in np.ndindex(x.shape[:-1]):
        token = x[sample, position]
        weights = trex_routing(layer, token, None if intuition is None else intuition[sample])
        if config.pairing == "diagonal":
            experts = [np.outer(B[:, i], A[i]) for i in range(config.num_down)]
        else:
            experts = [np.outer(B[:, j], A[i]) for i in range(config.num_down) for j in range(config.num_up)]
        for weight, expert in zip(weights, experts, strict=True):
            delta[sample, position] += scale * weight * (expert @ token)
    return delta


NAIVE: dict[str, Callable[..., np.ndarray]] = {"moelora": moe_lora, "sira": moe_lora, "trex": trex}
