"""A campaign on the tiny suite and backbone of `tests.tiny_runs`, as a file would have it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

PROJECTIONS = ["q_proj", "v_proj"]
SECTIONS: dict[str, Any] = {
    "study": "trial",
    "base": {
        "steps": 2,
        "batch_size": 8,
        "save_every": 1,
        "warmup_steps": 0,
        "record_every": 0,
        "prompt_form": "options",
    },
    "systems": {
        "LoRA": {"adapter": {"peft_type": "LORA", "r": 2, "target_modules": PROJECTIONS}},
        "MixLoRA": {
            "adapter": {
                "peft_type": "MOELORA",
                "num_experts": 4,
                "top_k": 2,
                "gate": "switch",
                "r": 2,
                "target_modules": PROJECTIONS,
            }
        },
    },
    "tune": {
        "grid": {"lr": [0.001, 0.01], "router_multiplier": [0.1]},
        "seeds": [100],
        "holdout_rows": 6,
    },
    "final": {"seeds": [0, 1], "changes": {"steps": 3, "eval_rows": 4}},
    "endpoints": {"parts": {"all": {"role": "task"}}},
}


def sections_of(backbone: str, suite: str, **changes: Any) -> dict[str, Any]:
    """The sections; `tune__seeds=[…]` sets `seeds` inside `tune`, and None takes a key out."""
    sections = copy.deepcopy(SECTIONS)
    sections["base"] |= {"backbone": backbone, "suite": suite}
    for path, value in changes.items():
        *parents, last = path.split("__")
        inside = sections
        for parent in parents:
            inside = inside[parent]
        if value is None:
            del inside[last]
        else:
            inside[last] = value
    return sections


def written(sections: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(sections, sort_keys=False), encoding="utf-8")
    return path
