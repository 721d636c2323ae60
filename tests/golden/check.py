"""Hold our modules against the numbers of the authors' own code: `python -m tests.golden.check DIR [--prefix trex_]`.

A case is NAME.json (system, mode, hyper-parameters) beside NAME.npz (inputs, weights, outputs, gradients); a JSON
without arrays is a record and is passed over. Each case is rebuilt from its own description, never from its name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from . import moelora, optimizers, smore, trex

# the first whose key begins a case's system rebuilds it
REBUILD: dict[str, Callable[[dict, dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "T-REX": trex.rebuild,
    "THUDM MoELoRA_Riemannian optimizers": optimizers.rebuild,
    "THUDM MoELoRA_Riemannian": moelora.rebuild,
    "S'MoRE": smore.rebuild,
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
# the authors' noisy gate takes its softmax in float32 whatever the model's type, and how that rounds is the processor's
FLOAT32_SOFTMAX = 1e-6


class NotUnderstood(ValueError):
    """The case describes something that no rebuilder knows."""


@dataclass
class Outcome:
    """One case: its largest relative error and which array it is in, or why the case could not be run."""

    name: str
    error: float
    where: str
    ok: bool

    def __str__(self) -> str:
        return f"{'ok    ' if self.ok else 'FAILED'} {self.name:40s} {self.error:.2e}  {self.where}"


def read_cases(folder: Path, prefix: str = "") -> Iterator[tuple[str, dict, dict[str, torch.Tensor]]]:
    """(name, description, arrays) of every case in a folder, in order of their names."""
    for path in sorted(folder.glob(f"{prefix}*.json")):
        try:
            description = json.loads(path.read_text())
        except ValueError as error:
            description = {"system": f"unreadable JSON: {error}"}
        arrays = {}
        if path.with_suffix(".npz").exists():
            with np.load(path.with_suffix(".npz")) as stored:
                arrays = {key: torch.from_numpy(np.atleast_1d(stored[key])) for key in stored.files}
        if arrays or "arrays" in description or "unreadable" in str(description.get("system", "")):
            yield path.stem, description, arrays


def relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest difference over the reference's largest magnitude; the plain difference where that is zero."""
    if ours.numel() != reference.numel():
        return float("inf")
    if not reference.numel():
        return 0.0
    difference = (ours.detach().reshape(reference.shape) - reference).abs().max().item()
    scale = reference.abs().max().item()
    error = difference / scale if scale > 1e-12 else difference
    return error if np.isfinite(error) else float("inf")


def recorded(rebuild: Callable, description: dict, arrays: dict[str, torch.Tensor]) -> set[str]:
    """The arrays of a case that are compared; of a layer's case its output and the gradients."""
    if rebuild is optimizers.rebuild:
        return optimizers.recorded(arrays)
    if rebuild is smore.rebuild:
        return smore.recorded(description, arrays)
    return {key for key in arrays if key == "y" or (key.startswith(("grad_", "plain_grad_")) and key != "grad_y")}


def check(name: str, description: dict, arrays: dict[str, torch.Tensor]) -> Outcome:
    """Rebuild one case and compare every output and gradient that it records."""
    try:
        system = str(description.get("system", ""))
        rebuild = next((REBUILD[key] for key in REBUILD if system.startswith(key)), None)
        if rebuild is None:
            raise NotUnderstood(f"no rebuilder for system {system!r}")
        ours = rebuild(description, arrays)
        wanted = recorded(rebuild, description, arrays)
        if missing := sorted(wanted - set(ours)):
            raise NotUnderstood(f"recorded but not computed: {', '.join(missing)}")
        if not wanted:
            raise NotUnderstood("it records no result: neither y, nor a gradient, nor a factor after a step")
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        return Outcome(name, float("inf"), f"not understood: {type(error).__name__}: {error}", False)
    errors = {key: relative_error(ours[key], arrays[key]) for key in sorted(wanted)}
    worst = max(errors, key=errors.__getitem__)
    return Outcome(name, errors[worst], worst, errors[worst] <= tolerance_of(description, ours[worst]))


def tolerance_of(description: dict, array: torch.Tensor) -> float:
    """The relative error that a case may have in an array of this type."""
    noisy = "noisy" in str(description.get("hyper", {}).get("gate_type", ""))
    return max(TOLERANCE[array.dtype], FLOAT32_SOFTMAX if noisy else 0.0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check our modules against golden cases.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prefix", default="", help="only cases whose name starts so")
    options = parser.parse_args(argv)
    outcomes = []
    for case in read_cases(options.folder, options.prefix):
        outcomes.append(check(*case))
        print(outcomes[-1])
    failed = sum(not outcome.ok for outcome in outcomes)
    largest = max((outcome.error for outcome in outcomes), default=0.0)
    print(f"{len(outcomes)} cases, {failed} failed, largest relative error {largest:.2e}")
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
