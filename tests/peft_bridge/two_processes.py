"""What each of two processes of a test does: transformers' Trainer over both, its gradient beside the one by hand.

It writes the relative error of every system in every way. Alone:
torchrun --nproc_per_node 2 -m tests.peft_bridge.two_processes RESULTS.json
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import torch
from torch import distributed

from .in_trainers import BATCHES, by_hand, own_loss, trained_gradient
from .systems import OPTIONS, Case

WAYS = {
    "plain": {},
    "label smoothing": {"label_smoothing_factor": 0.1},
    "own loss": {"compute_loss_func": own_loss},
    "each device by itself": {"average_tokens_across_devices": False},
}


def main(results: Path) -> None:
    torch.set_num_threads(1)
    gc.freeze()  # each Trainer collects garbage, and should not look for it in the libraries
    found: dict[str, float] = {}
    for system in OPTIONS:
        for way, options in WAYS.items():
            case = Case(system)
            model = case.model()
            ours = trained_gradient(case, model, 2 * BATCHES, ddp_find_unused_parameters=False, **options)
            right = by_hand(case, case.model(), options.get("label_smoothing_factor", 0.0), 2 * BATCHES)
            found[f"{system}, {way}"] = float((ours - right).norm() / right.norm())
    if distributed.get_rank() == 0:
        assert distributed.get_world_size() == 2
        results.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
