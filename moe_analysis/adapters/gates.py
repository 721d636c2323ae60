"""Gates: from router logits to the weights of the experts, each with its balance loss.

softmax     softmax over all experts, the k largest kept, renormalized to sum 1 (Sun et al. 2025) or not (SiRA)
switch      the same, renormalized only for k > 1, so that one expert's gate still carries a gradient (MixLoRA)
noisy_topk  noise in training, the k largest logits, softmax over those (Shazeer et al. 2017)
dense       softmax over all experts, all of them kept
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

GATES = ("softmax", "switch", "noisy_topk", "dense")
NOISE_FLOOR = 1e-2


def check_gate(gate: str, num_experts: int, top_k: int, balance_coef: float) -> None:
    """Raise ValueError naming the rule that a gate's configuration breaks."""
    if gate not in GATES:
        raise ValueError(f"gate = {gate!r} is unknown; choose one of {', '.join(GATES)}")
    if num_experts < 1:
        raise ValueError(f"num_experts = {num_experts} must be at least 1")
    if not 1 <= top_k <= num_experts:
        raise ValueError(f"top_k = {top_k} must be between 1 and num_experts = {num_experts}")
    if balance_coef < 0:
        raise ValueError(f"balance_coef = {balance_coef} would reward imbalance; it must be at least 0")
    if gate == "dense" and top_k != num_experts:
        raise ValueError(f"a dense gate keeps every expert, but top_k = {top_k} of {num_experts}; leave top_k out")
    if gate == "dense" and balance_coef:
        raise ValueError(f"a dense gate has no balance loss, but balance_coef = {balance_coef}; set it to 0")
    if gate == "noisy_topk" and top_k == num_experts and balance_coef:
        raise ValueError(
            f"noisy top-k needs top_k < num_experts = {num_experts}, because its load is not defined for top_k = "
            "num_experts; lower top_k"
        )


def keep_top_k(
    probabilities: Float[Tensor, "*tokens expert"], k: int, normalize: bool
) -> Float[Tensor, "*tokens expert"]:
    """The probabilities with all but the k largest set to zero; they sum to 1 when `normalize`."""
    if k < probabilities.shape[-1]:
        kept = probabilities.topk(k, dim=-1, sorted=False)
        probabilities = torch.zeros_like(probabilities).scatter(-1, kept.indices, kept.values)
    return probabilities / probabilities.sum(-1, keepdim=True) if normalize else probabilities


def top_k_softmax(logits: Float[Tensor, "*tokens expert"], k: int) -> Float[Tensor, "*tokens expert"]:
    """The softmax of the k largest alone, which is their share of the softmax of all; else 0."""
    if k == logits.shape[-1]:
        return logits.softmax(-1)
    kept = logits.topk(k, dim=-1, sorted=False)
    return torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values).softmax(-1)


def select(
    values: Float[Tensor, "*tokens expert"], token_mask: Shaped[Tensor, "..."] | None
) -> Float[Tensor, "token expert"]:
    """The values of the real tokens alone, in rows."""
    flat = values.reshape(-1, values.shape[-1])
    if token_mask is None:
        return flat
    keep = token_mask.reshape(-1).bool()
    if keep.numel() != flat.shape[0]:
        raise ValueError(f"token_mask has {keep.numel()} tokens but the layer's input has {flat.shape[0]}")
    return flat[keep]


@dataclass(frozen=True)
class Counted:
    """The tokens that a balance loss counts, made ready once for all layers that see the same mask.

    padding: those it leaves out, None if there are none. ones: 1 for a token that counts, 0 for another. share: 1 over
    the square of their number, as load and importance are both shares.
    """

    padding: Bool[Tensor, "token"] | None
    ones: Int[Tensor, "token"]
    share: Float[Tensor, ""]
    known: dict[int, Int[Tensor, "place"]] = field(default_factory=dict)

    @classmethod
    def of(cls, token_mask: Shaped[Tensor, "..."] | None, values: Float[Tensor, "token _"]) -> Counted:
        """Those of a mask; all tokens without one. A batch of padding alone costs nothing."""
        real = real_tokens(token_mask, values)
        ones = torch.ones(len(values), dtype=torch.long, device=values.device) if real is None else real.view(-1).long()
        share = ones.sum().clamp_(min=1).to(wide(values.dtype)).pow_(-2)
        return cls(None if real is None else ~real.view(-1), ones, share)

    def repeated(self, times: int) -> Int[Tensor, "place"]:
        """The ones of each token so often in a row."""
        if times not in self.known:
            self.known[times] = self.ones.repeat_interleave(times)
        return self.known[times]


def real_tokens(
    token_mask: Shaped[Tensor, "..."] | None, values: Shaped[Tensor, "token ..."]
) -> Bool[Tensor, "token ..."] | None:
    """The mask as True and False that spread over values; None stays None."""
    if token_mask is None:
        return None
    if not isinstance(token_mask, Tensor):
        raise ValueError(f"token_mask is a {type(token_mask).__name__}; pass a tensor or an array (batch, sequence)")
    if token_mask.numel() != values.shape[0]:
        raise ValueError(f"token_mask has {token_mask.numel()} tokens but the layer's input has {values.shape[0]}")
    return token_mask.to(values.device).bool().reshape(-1, *[1] * (values.dim() - 1))


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32 for half types: a sum over some thousand tokens, or one over its square, is no number of float16."""
    return torch.promote_types(dtype, torch.float32)


def total(
    values: Shaped[Tensor, "token *places expert"], real: Bool[Tensor, "token ..."] | None
) -> Shaped[Tensor, "expert"]:
    """Sum over the real tokens, of half types in float32. What stands at padding, NaN too, is left out."""
    kept = values if real is None else values.masked_fill(~real, 0)
    dtype = wide(values.dtype) if values.is_floating_point() else None
    return kept.sum(tuple(range(values.dim() - 1)), dtype=dtype)


def switch_loss(
    probabilities: Float[Tensor, "*tokens expert"],
    gates: Float[Tensor, "*tokens expert"],
    token_mask: Shaped[Tensor, "..."] | None,
) -> Float[Tensor, ""]:
    """E · Σ_i load_i · importance_i (Fedus et al. 2022); as in MixLoRA every chosen expert counts, loads sum to k."""
    probabilities, gates = (values.reshape(-1, values.shape[-1]) for values in (probabilities, gates))
    real = real_tokens(token_mask, gates)
    return load_times_importance(total(gates > 0, real), probabilities, real)


def tree_switch_loss(
    probabilities: Float[Tensor, "token parent expert"],
    ids: Int[Tensor, "token parent child"],
    token_mask: Shaped[Tensor, "..."] | None,
) -> Float[Tensor, ""]:
    """`switch_loss` from the ids of the chosen, which are fewer than the gates."""
    real = real_tokens(token_mask, ids)
    ones = torch.ones_like(ids) if real is None else real.expand_as(ids).to(ids.dtype)
    counts = torch.zeros(probabilities.shape[-1], dtype=ids.dtype, device=ids.device)
    return load_times_importance(counts.scatter_add(0, ids.flatten(), ones.flatten()), probabilities, real)


def load_times_importance(
    counts: Int[Tensor, "expert"],
    probabilities: Float[Tensor, "token *places expert"],
    real: Bool[Tensor, "token ..."] | None,
) -> Float[Tensor, ""]:
    """The loss from the counts, how often each expert was chosen, and the probabilities of all tokens."""
    experts, places = probabilities.shape[-1], probabilities.shape[1:-1].numel()  # of a token
    # a batch of padding alone costs nothing
    tokens = torch.sym_max(probabilities.shape[0], 1) if real is None else real.sum().clamp(min=1)
    load = counts.to(wide(probabilities.dtype)) / (tokens * places)
    return experts * (load * total(probabilities, real) / (tokens * places)).sum()


def noisy_logits(
    clean: Float[Tensor, "*tokens expert"], raw_scale: Float[Tensor, "*tokens expert"], training: bool
) -> tuple[Float[Tensor, "*tokens expert"], Float[Tensor, "*tokens expert"]]:
    """(logits with noise added in training, the noise's standard deviation)."""
    scale = F.softplus(raw_scale) + NOISE_FLOOR
    return (clean + torch.randn_like(clean) * scale if training else clean), scale


def smooth_load(
    clean: Float[Tensor, "*tokens expert"],
    noisy: Float[Tensor, "*tokens expert"],
    scale: Float[Tensor, "*tokens expert"],
    k: int,
) -> Float[Tensor, "*tokens expert"]:
    """Probability that each expert stays among the k largest if its own noise were drawn anew.

    Shazeer et al. 2017, appendix A: the threshold is the k-th largest of the other experts' noisy logits.
    """
    top = noisy.topk(k + 1, dim=-1).values
    inside = noisy >= top[..., k - 1 : k]
    threshold = torch.where(inside, top[..., k : k + 1], top[..., k - 1 : k])
    dtype = wide(scale.dtype)  # the derivative has the square of the scale below the line
    return torch.special.ndtr((clean - threshold).to(dtype) / scale.to(dtype))


def squared_variation(values: Float[Tensor, "expert"], dtype: torch.dtype | None = None) -> Float[Tensor, ""]:
    """cv²: variance over squared mean of a vector, computed in `dtype` (None: the vector's own)."""
    dtype = dtype or values.dtype
    # two casts, so that the gradients of the two parts meet in the vector's own precision
    return values.to(dtype).var() / (values.to(dtype).mean() ** 2 + 1e-10)


def noisy_loss(
    gates: Float[Tensor, "token *places expert"],
    load: Float[Tensor, "token *places expert"],
    token_mask: Shaped[Tensor, "..."] | None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, ""]:
    """cv²(importance) + cv²(load) of gates and load (Shazeer et al. 2017, equations 7 and 11).

    dtype: of the two variations; None is the gates' own, float32 for half types. A single expert costs 0.
    """
    if gates.shape[-1] == 1:
        return gates.new_zeros(())
    real = real_tokens(token_mask, gates)
    return squared_variation(total(gates, real), dtype) + squared_variation(total(load, real), dtype)
