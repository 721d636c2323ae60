"""Noise of the router's gradient with and without the semantic prior, on synthetic tasks with clusters.

A measurement, not a claim: no sign is promised. The loss's own gradient changes with the prior, so nothing but the
factor ω (`trex_theorem_4_3_router_gradient_scale`) is provable about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Generator, Tensor

    from ..adapters import TRex

PRIORS = ("none", "aligned", "mismatched")
NUM_DOWN, NUM_UP = 2, 4
IN_FEATURES, OUT_FEATURES, TOKENS = 16, 12, 4


def clustered_tasks(
    samples: int, separation: float, generator: Generator
) -> tuple[Float[Tensor, "sample token in"], Float[Tensor, "sample cluster"], Int[Tensor, "sample"]]:
    """Samples of I·J clusters: (x, cosines to the centroids, cluster).

    Hidden states carry their cluster as an offset of length `separation` under unit noise, so a router can learn
    it; the prompt's embedding is its centroid plus noise, so the intuition has a rough idea of it at once.
    """
    import torch
    from torch.nn.functional import normalize

    clusters = NUM_DOWN * NUM_UP
    centroids = normalize(torch.randn(clusters, 32, generator=generator), dim=1)
    offsets = normalize(torch.randn(clusters, IN_FEATURES, generator=generator), dim=1) * separation
    cluster = torch.arange(samples) % clusters
    embedding = normalize(centroids[cluster] + 0.1 * torch.randn(samples, 32, generator=generator), dim=1)
    x = torch.randn(samples, TOKENS, IN_FEATURES, generator=generator) + offsets[cluster, None]
    return x, embedding @ centroids.T, cluster


def build_layer(prior: str, generator: Generator) -> TRex:
    """A TRex with random fixed vectors; with or without intuition, the router at zero, ω at one half."""
    import torch

    from ..adapters import TRex, TRexConfig

    layer = TRex(IN_FEATURES, OUT_FEATURES, TRexConfig(num_down=NUM_DOWN, num_up=NUM_UP, intuition=prior != "none"))
    with torch.no_grad():
        layer.A.copy_(torch.randn(layer.A.shape, generator=generator) / IN_FEATURES**0.5)
        layer.B.copy_(torch.randn(layer.B.shape, generator=generator) / NUM_UP**0.5)
    return layer


def router_gradients(
    layer: TRex,
    x: Float[Tensor, "sample token in"],
    scores: Float[Tensor, "sample cluster"] | None,
    target: Float[Tensor, "sample token out"],
) -> tuple[Float[Tensor, "sample"], Float[Tensor, "sample row"]]:
    """(losses, gradients of I·J·in numbers) of each sample's squared error by the router's weight."""
    from torch.func import functional_call, grad_and_value, vmap

    from ..adapters import RoutingContext

    def loss_of(
        weight: Float[Tensor, "expert in"],
        sample: Float[Tensor, "token in"],
        wanted: Float[Tensor, "token out"],
        score: Float[Tensor, "cluster"] | None,
    ) -> Float[Tensor, ""]:
        context = None if score is None else RoutingContext(intuition=score[None])
        delta, _ = functional_call(layer, {"router.weight": weight}, (sample[None], context))  # (1, tokens, out)
        return ((delta[0] - wanted) ** 2).mean()

    over_samples = vmap(grad_and_value(loss_of), in_dims=(None, 0, 0, None if scores is None else 0))
    gradients, losses = over_samples(layer.router.weight.detach(), x, target, scores)  # (samples, I*J, in)
    return losses.detach(), gradients.detach().flatten(1)


def _train_router(
    layer: TRex,
    x: Float[Tensor, "sample token in"],
    scores: Float[Tensor, "sample cluster"] | None,
    target: Float[Tensor, "sample token out"],
    steps: int,
    lr: float,
) -> None:
    """Adam on the full batch; only the router and ω move, so the experts are the same with every prior."""
    import torch

    from ..adapters import RoutingContext

    optimizer = torch.optim.Adam([layer.router.weight, layer.omega_logit], lr=lr)
    context = None if scores is None else RoutingContext(intuition=scores)
    for _ in range(steps):
        optimizer.zero_grad()
        ((layer(x, context)[0] - target) ** 2).mean().backward()
        optimizer.step()


def router_gradient_noise(
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: tuple[int, ...] = (0, 20, 100),
    samples: int = 64,
    separation: float = 2.0,
    lr: float = 1e-2,
) -> pd.DataFrame:
    """Spread of the router's per-sample gradients over a mini-batch, one row per prior, seed and training step.

    Every cluster needs one expert, at the weight a saturated router would give it. prior: "none" (`intuition=False`),
    "aligned" (cluster k's score goes to the expert that k needs) or "mismatched" (to another's, the control). Columns:
    prior, seed, step, loss, omega, gradient_variance (trace of the covariance), mean_gradient_squared (squared norm of
    the mean), noise_to_signal (their ratio; over the batch size it is that of a mini-batch mean).

    Raises:
        ValueError: For steps that do not rise.

    Example:
        >>> noise = router_gradient_noise((0, 1), steps=(0, 2), samples=16)
        >>> len(noise), noise["prior"].unique().tolist()
        (12, ['none', 'aligned', 'mismatched'])
    """
    import torch

    if list(steps) != sorted(set(steps)) or not steps or steps[0] < 0:
        raise ValueError(f"steps = {steps} must increase from 0 or more; pass for example (0, 20, 100)")
    rows = []
    for seed in seeds:
        for prior in PRIORS:
            generator = torch.Generator().manual_seed(seed)  # the same tasks and experts for every prior
            x, cosines, cluster = clustered_tasks(samples, separation, generator)
            layer, done = build_layer(prior, generator), 0
            scores = {"none": None, "aligned": cosines, "mismatched": cosines.roll(1, dims=1)}[prior]
            target = saturated_output(layer, x, cluster)
            for step in steps:
                _train_router(layer, x, scores, target, step - done, lr)
                done = step
                losses, gradients = router_gradients(layer, x, scores, target)
                variance, mean = float(gradients.var(0).sum()), float((gradients.mean(0) ** 2).sum())
                rows.append(
                    {
                        "prior": prior,
                        "seed": seed,
                        "step": step,
                        "loss": float(losses.mean()),
                        "omega": float(layer.omega.detach()),
                        "gradient_variance": variance,
                        "mean_gradient_squared": mean,
                        "noise_to_signal": variance / mean,
                    }
                )
    return pd.DataFrame(rows)


def saturated_output(
    layer: TRex, x: Float[Tensor, "sample token in"], cluster: Int[Tensor, "sample"]
) -> Float[Tensor, "sample token out"]:
    """What the layer gives when its router is certain of expert `cluster`, at ω = ½."""
    import torch

    weight = layer.config.router_coef / 2
    down, up = cluster // NUM_UP, cluster % NUM_UP  # i-major, as the router
    with torch.no_grad():
        hidden = (x * layer.A[down][:, None]).sum(-1, keepdim=True)  # (samples, tokens, 1)
        return 0.5 * weight * hidden * layer.B.T[up][:, None]  # 0.5: the output scale at its start
