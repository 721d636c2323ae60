"""Rows of tables of results without any training."""

from __future__ import annotations

import json

import numpy as np

from moe_analysis.campaigns.row import packed, rows_digest

COUNTS = {"add_small": 10, "where_is": 13}


def made_up(
    seed: int = 0,
    system: str = "LoRA",
    *,
    right: float = 0.5,
    configuration: str | None = None,
    stage: str = "final",
    study: str = "trial",
    counts: dict[str, int] = COUNTS,
    points: int = 5,
) -> dict:
    """The row of a run that answers a share of its test rows right, drawn by its seed."""
    rng = np.random.default_rng(seed)
    outcomes = [packed(rng.random(count) < right) for count in counts.values()]
    return {
        "study": study,
        "stage": stage,
        "system": system,
        "seed": seed,
        "run": f"{system}-embedded-s{seed}",
        "configuration": configuration or f"digest of {system}",
        "config": json.dumps({"suite": "embedded", "datasets": list(counts), "seed": seed, "lr": 5e-3, "name": system}),
        "suites": ["embedded"] * len(counts),
        "datasets": list(counts),
        "kinds": ["choices"] * len(counts),
        "rows": list(counts.values()),
        "rows_digests": [rows_digest(np.arange(count)) for count in counts.values()],
        "losses": rng.random(len(counts)).tolist(),
        "correct": outcomes,
        "correct_norm": outcomes,
        "roles": ["original"] * len(counts),
        "chances": [0.5] * len(counts),
        "majorities": [0.4] * len(counts),
        "curve_steps": list(range(points)),
        "curve_loss": rng.random(points).astype(np.float32).tolist(),
        "curve_norm": rng.random(points).astype(np.float32).tolist(),
        "steps": 300,
        "seconds": 61.5,
        "machine": "a processor, 2 cores",
        "versions": json.dumps({"moe_analysis": "0.1.0"}),
        "backbone_sha256": "0" * 64,
    }
