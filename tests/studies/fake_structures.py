"""Runs with recorded trees that are made up."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import xarray as xr

from moe_analysis.adapters import SmoreConfig

MODULES = ("layers.0.mlp.up_proj", "layers.0.mlp.down_proj", "layers.1.mlp.up_proj")


def structured_run(seed: int, method: str = "S'MoRE", entropy: tuple[float, float] = (4.0, 2.0), differ: float = 0.2):
    """A run that recorded the trees of 100 tokens at steps 0, 5, 10, its entropy going from one value to another."""
    generator = np.random.default_rng(seed)
    shape = (3, len(MODULES))
    path = np.linspace(*entropy, 3)[:, None] + 0.05 * generator.random(shape)
    values = {
        "tokens": np.full(shape, 100.0),
        "distinct_trees": np.round(2**path) + 3,
        "tree_entropy": path,
        "differing_siblings": differ + 0.01 * generator.random(shape),
    }
    records = xr.Dataset(
        {kind: (("step", "module"), value) for kind, value in values.items()},
        {"step": [0, 5, 10], "module": list(MODULES)},
    )
    config = SimpleNamespace(name=method, seed=seed, system="smore", adapter=SmoreConfig())
    return SimpleNamespace(config=config, tree_records=records)


def recorded(seed: int, kinds: int = 12, tells: bool = False, method: str = "S'MoRE"):
    """A run with the trees of 3 data sets of 8 texts of 10 tokens; `tells`: each data set has trees of its own."""
    generator = np.random.default_rng(seed)
    tokens = pd.DataFrame({"row": np.repeat(np.arange(24), 10), "dataset": np.repeat(list("abc"), 80)})
    own = pd.factorize(tokens["dataset"])[0] * kinds if tells else 0
    codes = {module: generator.integers(0, kinds, len(tokens)) + own for module in MODULES}
    return structured_run(seed, method), codes, tokens
