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
    logits = np.array([row @ token for row in router]) / config.temperature
    k = config.num_experts if config.top_k is None else config.top_k
    chosen = sorted(range(len(logits)), key=lambda expert: -logits[expert])[:k]
    gates = np.zeros(len(logits))
    if config.gate == "noisy_topk":
        gates[chosen] = softmax(logits[chosen])
        return gates
    gates[chosen] = softmax(logits)[chosen]
    renormalize = config.normalize_gates
    if renormalize is None:
        renormalize = not (config.gate == "switch" and k == 1)
    return gates / gates.sum() if renormalize else gates


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


def hydralora(layer, x: np.ndarray, intuition: np.ndarray | None) -> np.ndarray:
    """(alpha / r) Σ_e g_e B_e A x with one A."""
    config, A, B = layer.config, array(layer.A)[0], array(layer.B)
    delta = np.zeros((*x.shape[:-1], B.shape[1]))
    for place in np.ndindex(x.shape[:-1]):
        for head, gate in enumerate(mixture_gates(config, array(layer.router.weight), x[place])):
            delta[place] += config.alpha / config.r * gate * (B[head] @ (A @ x[place]))
    return delta


def momor(layer, x: np.ndarray, intuition: np.ndarray | None) -> np.ndarray:
    """Σ_l Σ_i g^i_l B^i_l A^i_l x, pool by pool."""
    config = layer.config
    delta = np.zeros((*x.shape[:-1], layer.out_features))
    for place in np.ndindex(x.shape[:-1]):
        for pool, (k, gate) in enumerate(zip(config.top_k, config.by_pool("gate"), strict=True)):
            A, B = array(layer.A[pool]), array(layer.B[pool])
            scores = softmax(array(layer.gates[pool].weight) @ x[place])
            chosen = sorted(range(len(scores)), key=lambda expert: -scores[expert])[:k]
            total = 1.0 if gate == "switch" and k == 1 else scores[chosen].sum()
            for expert in chosen:
                weight = config.scales[pool] * scores[expert] / total
                delta[place] += weight * (B[expert] @ (A[expert] @ x[place]))
    return delta


class Tree:
    """S'MoRE's Eq. 3 for one token, node after node, by recursion."""

    def __init__(self, layer, x: np.ndarray) -> None:
        self.layer, self.x = layer, x
        self.known = array(layer.down.weight) @ x + array(layer.down.bias)

    def expert(self, level: int, index: int) -> np.ndarray:
        layer, pool = self.layer, 0 if self.layer.config.shared_pool else level
        bias = layer.config.expert_bias
        inner = array(layer.A[pool])[index] @ self.x + (array(layer.A_bias[pool])[index] if bias else 0)
        outer = array(layer.B[pool])[index] @ inner + (array(layer.B_bias[pool])[index] if bias else 0)
        return layer.config.scales[level] * outer

    def activate(self, level: int, value: np.ndarray) -> np.ndarray:
        return activation(self.layer.activations[level], self.layer.config.activation, value)

    def children(self, level: int, ancestors: list[np.ndarray]) -> list[tuple[int, float, np.ndarray]]:
        """(expert, score, key that its descendants see) of the children that a top-down gate chooses."""
        config, gate = self.layer.config, self.layer.gates[level]
        known, keys = np.concatenate([self.known, *ancestors]), array(gate.keys)
        query = through_mlp(gate.mlp, config.router_activation, known)
        if config.gate == "noisy_topk":
            keys = keys / np.linalg.norm(keys, axis=1, keepdims=True)
            query = query / np.linalg.norm(query)
        chosen, scores = best(config.gate, keys @ query, config.fanout[level])
        return [(int(index), score, keys[index]) for index, score in zip(chosen, scores, strict=True)]

    def top_down(self, level: int, ancestors: list[np.ndarray]) -> np.ndarray:
        """x_{level+1} of a parent with these ancestors."""
        found = [
            (index, score, self.top_down(level - 1, [*ancestors, key]) if level else None)
            for index, score, key in self.children(level, ancestors)
        ]
        return self.combine(level, found)

    def bottom_up(self, level: int, position: int) -> np.ndarray:
        """x_{level+1} of the parent at a position of its layer."""
        gate, fanout = self.layer.gates[level], self.layer.config.fanout[level]
        if level == 0:
            chosen, scores = best("switch", array(gate.keys)[position] @ self.known, fanout)
            return self.combine(0, [(int(i), score, None) for i, score in zip(chosen, scores, strict=True)])
        found, taken = [], []
        for node in range(position * fanout, (position + 1) * fanout):
            below = self.bottom_up(level - 1, node)
            known = [np.concatenate([below, key]) for key in array(gate.keys)[node]]
            scores = softmax([through_mlp(gate.mlp, self.layer.config.router_activation, one)[0] for one in known])
            index = max((i for i in range(len(scores)) if i not in taken), key=lambda i: scores[i])
            taken.append(index)
            found.append((index, scores[index], below))
        total = sum(score for _, score, _ in found) if fanout > 1 else 1.0
        return self.combine(level, [(index, score / total, below) for index, score, below in found])

    def combine(self, level: int, children: list) -> np.ndarray:
        config, total = self.layer.config, np.zeros(self.layer.config.widths[level + 1])
        for index, score, below in children:
            value = self.expert(level, index)
            if below is None:
                total += score * (self.activate(level, value) if config.activation_position == "all" else value)
                continue
            W, bias = array(self.layer.W[level]), array(self.layer.W_bias[level]) if config.expert_bias else 0
            if config.activation_position == "all":
                total += score * self.activate(level, value + W @ below + bias)
                continue
            child = W @ self.activate(level, below) + bias
            total += score * value + (score if config.activation_position == "child_scored" else 1.0) * child
        return total


def best(gate: str, logits: np.ndarray, fanout: int) -> tuple[np.ndarray, np.ndarray]:
    """(experts, scores) that a gate keeps."""
    order = np.argsort(-np.asarray(logits))
    if gate == "noisy_topk":
        chosen = order[:fanout]
        return chosen, logits[chosen] if fanout == 1 else softmax(logits[chosen])
    scores = softmax(logits)
    chosen = order if gate == "dense" else order[:fanout]
    renormalize = gate == "switch" and fanout > 1
    return chosen, scores[chosen] / (scores[chosen].sum() if renormalize else 1.0)


def activation(module, name: str, value: np.ndarray) -> np.ndarray:
    if name == "prelu":
        return np.where(value > 0, value, module.weight.item() * value)
    return {"tanh": np.tanh, "relu": lambda v: np.maximum(v, 0), "identity": lambda v: v}[name](value)


def through_mlp(mlp, name: str, value: np.ndarray) -> np.ndarray:
    if not len(mlp):
        return value
    hidden = activation(mlp[1], name, array(mlp[0].weight) @ value + array(mlp[0].bias))
    return array(mlp[2].weight) @ hidden + (0 if mlp[2].bias is None else array(mlp[2].bias))


def smore(layer, x: np.ndarray, intuition: np.ndarray | None) -> np.ndarray:
    config, delta = layer.config, np.zeros((*x.shape[:-1], layer.out_features))
    for place in np.ndindex(x.shape[:-1]):
        tree = Tree(layer, x[place])
        top = config.layers - 1
        output = tree.top_down(top, []) if config.router == "top_down" else tree.bottom_up(top, 0)
        delta[place] = array(layer.W_proj) @ output + (array(layer.W_proj_bias) if config.expert_bias else 0)
    return delta


NAIVE: dict[str, Callable[..., np.ndarray]] = {
    "moelora": moe_lora,
    "sira": moe_lora,
    "trex": trex,
    "hydralora": hydralora,
    "momor": momor,
    "smore": smore,
}
