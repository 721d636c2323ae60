"""What an adapter costs: forward and backward of one adapted linear layer, beside the bare layer and PEFT's LoRA.

    python benchmarks/adapters.py [--json] [--quick] [--rounds 15] [--only smore]

All variants of a size run in turns on the same input, with one thread, in process time; reported are ratios of medians.
The layer is called as it stands in a model, through the PEFT bridge; its input needs a gradient, its balance loss takes
part. `smore_gathered` is Eq. 3 as it is written, with every node's own copy of its expert's B.

ratio_frozen, ratio_lora: time over that of the frozen layer and over LoRA's of equal total rank. ratio_floor: over the
frozen layer's with the adapter's multiplications added at equal efficiency, 1 + 3 MAC / (2 width²). memory_ratio_lora:
peak of the memory allocated during the two passes, over LoRA's.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import peft
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import moe_analysis as ma
from moe_analysis.peft_bridge import AdapterLayer, Call, opened
from moe_analysis.theory.count import flop_counter

SYSTEMS: dict[str, tuple[str, int, dict[str, Any]]] = {  # label: config, total rank, options
    "trex": ("TRexConfig", 32, {"num_down": 4, "num_up": 8, "intuition": False}),  # 32 experts of rank 1
    "trex_vectors": ("TRexConfig", 8, {"num_down": 4, "num_up": 8, "intuition": False}),  # of which 8 up vectors
    "moe_lora": ("MoeLoraConfig", 80, {"num_experts": 20, "r": 4, "top_k": 10, "gate_backward_power": 0.5}),
    "smore": ("SmoreConfig", 64, {"num_experts": [4, 4], "fanout": [2, 2], "r": 8}),
    "smore_8_experts": ("SmoreConfig", 128, {"num_experts": [8, 8], "fanout": [4, 4], "r": 8}),
}
SIZES = [(tokens, width) for width in (512, 2048) for tokens in (1024, 4096)]
Pass = Callable[[], None]


class Layer(nn.Module):
    """The smallest model that PEFT adapts: one linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def adapted(width: int, config: Any) -> nn.Module:
    """A layer with an adapter whose weights are all away from zero."""
    torch.manual_seed(0)
    model = peft.inject_adapter_in_model(config, Layer(width))
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model


def gathered(adapter: Any, x: Tensor) -> Tensor:
    """S'MoRE's update from Eq. 3 node by node: B, bias and score of each node's expert are copied to the node."""
    config, flat = adapter.config, x.reshape(-1, x.shape[-1])
    choices = adapter.route(adapter.down(flat))
    below, tokens = None, flat.shape[0]
    for layer, choice in enumerate(choices):
        ids = choice.ids.flatten(1)  # (N, F)
        inner = torch.einsum("srd,nd->nsr", adapter.A[layer], flat) + adapter.A_bias[layer]  # (N, s, r)
        inner = inner.gather(1, ids.unsqueeze(-1).expand(-1, -1, inner.shape[-1]))  # (N, F, r)
        value = torch.einsum("nfdr,nfr->nfd", adapter.B[layer][ids], inner) + adapter.B_bias[layer][ids]
        if below is not None:
            value = value + below @ adapter.W[layer].T + adapter.W_bias[layer]
        value = adapter.activations[layer](value) * choice.scores.reshape(tokens, -1, 1)
        below = value.unflatten(1, (-1, config.fanout[layer])).sum(2)  # (N, F_{l+1}, d)
    return (below.squeeze(1) @ adapter.W_proj.T + adapter.W_proj_bias).reshape(*x.shape[:-1], -1)


def both_passes(model: nn.Module, x: Tensor, upstream: Tensor, by_gathers: bool = False) -> Pass:
    """One forward and backward pass, with the gradients thrown away."""
    layer: Any = model.linear

    def run() -> None:
        x.grad = None
        model.zero_grad(set_to_none=True)
        if by_gathers:
            (layer.base_layer(x) + gathered(layer.adapters["default"], x)).backward(upstream)
        elif isinstance(layer, AdapterLayer):
            with opened(Call()) as call:
                y = layer(x)
            losses = call.balance_losses
            torch.autograd.backward([y, *losses], [upstream, *(torch.ones_like(loss) for loss in losses)])
        else:
            layer(x).backward(upstream)

    return run


def agree(model: Any, x: Tensor) -> None:
    """Both ways of S'MoRE must compute the same, or their ratio would mean nothing."""
    layer = model.linear
    with torch.no_grad():
        ours, written = layer(x) - layer.base_layer(x), gathered(layer.adapters["default"], x)
    error = float((ours - written).abs().max() / written.abs().max())
    if not error < 1e-3 or not math.isfinite(error):
        raise RuntimeError(f"the two forms of S'MoRE differ by {error:.1e} of the largest value")


class Allocations(TorchDispatchMode):
    """Follows the tensors that operations make: `peak` is the largest sum of bytes that were alive at once."""

    def __init__(self, existing: list[Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in existing}
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.known:
                storage = tensor.untyped_storage()
                self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return made


def peak_bytes(run: Pass, model: nn.Module, *inputs: Tensor) -> int:
    """Largest sum of what the two passes have made and not yet freed; weights and inputs are there before."""
    run()
    with Allocations([*model.parameters(), *inputs]) as allocations:
        run()
    return allocations.peak


def multiplications(adapter: nn.Module, width: int) -> int:
    """Multiply-accumulates of the adapter's forward pass, a token."""
    with flop_counter() as counter, torch.no_grad():
        adapter(torch.randn(64, width))
    return counter.get_total_flops() // (2 * 64)


def measure(tokens: int, width: int, rounds: int, only: str) -> list[dict[str, Any]]:
    """One row a system at one size."""
    torch.manual_seed(1)
    x = torch.randn(tokens, width, requires_grad=True)
    upstream = torch.randn(tokens, width)
    passes: dict[str, Pass] = {"frozen": both_passes(Layer(width), x, upstream)}
    models: dict[str, nn.Module] = {}
    macs: dict[str, int] = {}
    for label, (config, rank, options) in SYSTEMS.items():
        if not label.startswith(only):
            continue
        model: Any = adapted(width, getattr(ma, config)(target_modules=["linear"], **options))
        lora = adapted(width, peft.LoraConfig(r=rank, target_modules=["linear"]))
        passes |= {label: both_passes(model, x, upstream), f"{label}/lora": both_passes(lora, x, upstream)}
        models |= {label: model, f"{label}/lora": lora}
        macs[label] = multiplications(model.linear.adapters["default"], width)
        if label.startswith("smore"):
            agree(model, x)
            name = f"{label}_gathered"
            passes |= {name: both_passes(model, x, upstream, by_gathers=True)}
            passes[f"{name}/lora"], macs[name] = passes[f"{label}/lora"], macs[label]
            models |= {name: model, f"{name}/lora": lora}
    times = interleaved(passes, rounds)
    rows = []
    for label, mac in macs.items():
        ratio, floor = times[label] / times["frozen"], 1 + 3 * mac / (2 * width**2)
        ours, lora = (peak_bytes(passes[name], models[name], x, upstream) for name in (label, f"{label}/lora"))
        rows.append(
            {
                "system": label,
                "tokens": tokens,
                "width": width,
                "ratio_frozen": round(ratio, 3),
                "ratio_lora": round(times[label] / times[f"{label}/lora"], 3),
                "ratio_floor": round(ratio / floor, 3),
                "memory_ratio_lora": round(ours / lora, 3),
            }
        )
    return rows


def interleaved(passes: dict[str, Pass], rounds: int) -> dict[str, float]:
    """Median process seconds of each pass; the first two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds + 2):
        for name, run in passes.items():
            started = time.process_time()
            run()
            times[name].append(time.process_time() - started)
    return {name: float(np.median(seconds[2:])) for name, seconds in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the rows only, one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="the smallest size and few rounds")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="systems whose name begins so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes, rounds = (SIZES[:1], min(options.rounds, 5)) if options.quick else (SIZES, options.rounds)
    for tokens, width in sizes:
        for row in measure(tokens, width, rounds, options.only):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
