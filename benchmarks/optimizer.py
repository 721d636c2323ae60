"""What the preconditioner costs: one optimizer step of many experts, beside a loop over them and plain AdamW.

    python benchmarks/optimizer.py [--json] [--layers 24] [--experts 20] [--rank 4] [--width 512] [--rounds 30]

Three optimizers step on the same gradients of the same shapes, in turns, with one thread, in process time: ours
(AdamW form, sequential as the authors'), the authors' form written as they write it (one `torch.inverse` and one set of
moments an expert), and torch's AdamW(foreach) on the very tensors. Reported are ratios of medians.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from moe_analysis.adapters import MoeLora, MoeLoraConfig
from moe_analysis.optim import RiemannianAdamW

LR, DAMPING, BETAS, EPS = 1e-5, 1e-6, (0.9, 0.999), 1e-6


def build(layers: int, experts: int, rank: int, width: int) -> nn.ModuleList:
    """One MoeLora a layer, experts stacked, with gradients; the routers are frozen."""
    torch.manual_seed(0)
    config = MoeLoraConfig(num_experts=experts, r=rank)
    modules = nn.ModuleList(MoeLora(width, width, config) for _ in range(layers))
    for module in modules:
        module.router.weight.requires_grad_(False)
        module.B.data.normal_(std=0.05)
        module.A.grad, module.B.grad = torch.randn_like(module.A), torch.randn_like(module.B)
    return modules


class ExpertLoop:
    """The authors' AdamWr: expert after expert, an inverse and a set of moments each."""

    def __init__(self, modules: nn.ModuleList) -> None:
        self.pairs = [
            tuple(factor[expert].detach().clone() for factor in (module.A, module.B, module.A.grad, module.B.grad))
            for module in modules
            for expert in range(len(module.A))
        ]
        self.moments = [[torch.zeros_like(t) for t in (a, a, b, b)] for a, b, _, _ in self.pairs]
        self.damping = DAMPING * torch.eye(len(self.pairs[0][0]))

    def step(self) -> None:
        for (a, b, grad_a, grad_b), (mean_a, square_a, mean_b, square_b) in zip(self.pairs, self.moments):
            self.move(a, torch.inverse(b.T @ b + self.damping) @ grad_a, mean_a, square_a)
            self.move(b, grad_b @ torch.inverse(a @ a.T + self.damping), mean_b, square_b)

    @staticmethod
    def move(factor: Tensor, gradient: Tensor, mean: Tensor, square: Tensor) -> None:
        mean.mul_(BETAS[0]).add_(gradient, alpha=1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        factor.addcdiv_(mean, square.sqrt().add_(EPS), value=-LR)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Median milliseconds of a step of each."""
    torch.set_num_threads(1)
    shape = (options.layers, options.experts, options.rank, options.width)
    ours, plain, loop = build(*shape), build(*shape), ExpertLoop(build(*shape))
    experts = [p for p in plain.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(experts, lr=LR, betas=BETAS, eps=EPS, foreach=True)
    steps: dict[str, Callable[[], object]] = {
        "ours": RiemannianAdamW(ours, lr=LR, damping=DAMPING, betas=BETAS, eps=EPS, update="sequential").step,
        "simultaneous": RiemannianAdamW(build(*shape), lr=LR, damping=DAMPING, betas=BETAS, eps=EPS).step,
        "loop": loop.step,
        "adamw": adamw.step,
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds + 3):
        for name, step in steps.items():
            started = time.process_time()
            step()
            times[name].append(time.process_time() - started)
    agree(ours, loop)
    return {name: 1e3 * float(np.median(seconds[3:])) for name, seconds in times.items()}  # the first ones warm up


def agree(modules: nn.ModuleList, loop: ExpertLoop) -> None:
    """Both must have computed the same, or the ratio would mean nothing."""
    looped = [torch.cat([pair[index].flatten() for pair in loop.pairs]) for index in (0, 1)]
    stacked = [torch.cat([getattr(module, name).detach().flatten() for module in modules]) for name in "AB"]
    worst = max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(stacked, looped))
    if not worst < 1e-4 or not math.isfinite(worst):
        raise RuntimeError(f"the two steps differ by {worst:.1e} of the largest weight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print only the last line's object")
    for name, default in (("layers", 24), ("experts", 20), ("rank", 4), ("width", 512), ("rounds", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    times = measure(options)
    if not options.json:
        for name, milliseconds in times.items():
            print(f"{name:13s} {milliseconds:8.2f} ms a step")
    print(
        json.dumps(
            {
                "speedup_vs_loop": round(times["loop"] / times["ours"], 2),
                "ratio_vs_adamw": round(times["ours"] / times["adamw"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
