"""From runs with a record of their experts to the anatomy of the experts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from ..asked import Runs, asked
from ..result import Result
from .anatomy import anatomy_bands, conditioning, load_balance, similarity


@dataclass(frozen=True, eq=False)
class ExpertAnatomy(Result):
    """Experts over training, one row per method, seed, step and module in each table.

    Args:
        conditioning: condition numbers of the Gram matrices, as `conditioning` returns them.
        similarity: how similar experts are, as `similarity` returns it.
        load: how evenly experts are used, as `load_balance` returns it.
    """

    item = "gr_anatomy"
    title = "Beyond gR: conditioning, similarity and load of the experts"
    question = "What does gate rescaling do to the experts while they learn?"
    how_to_read = (
        "One column per layer, one color per method, one dash per measure. Lines are means over seeds, shades reach "
        "from the lowest seed to the highest. The entropy of a token's gates is near 1 if its chosen experts have "
        "equal gates; the entropy of the load is near 1 if all experts are chosen equally often."
    )
    how_to_explore = (
        "The menu chooses the layer; one color per method, one dash per measure. Lines are means over seeds; point at "
        "a line for the lowest and the highest seed. The entropy of a token's gates is near 1 if its chosen experts "
        "have equal gates; the entropy of the load is near 1 if all experts are chosen equally often."
    )
    saved = ("bands",)

    conditioning: pd.DataFrame
    similarity: pd.DataFrame
    load: pd.DataFrame

    @cached_property
    def bands(self) -> pd.DataFrame:
        """Mean, lowest and highest seed, by layer."""
        return anatomy_bands(self.conditioning, self.similarity, self.load)

    @cached_property
    def by_module(self) -> pd.DataFrame:
        """Mean, lowest and highest seed, by module."""
        return anatomy_bands(self.conditioning, self.similarity, self.load, by="module")

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {**super().tables, "bands": self.bands}


@asked()
def measure(runs: Runs) -> ExpertAnatomy:
    """Measure the experts of runs.

    Args:
        runs: with recorded gates and experts (`record_experts_every`); usually RSGD and gRSGD at the same seeds.

    Raises:
        ValueError: without runs, and for two runs of the same method and seed.
        RunError: for a run without records of its experts.

    Example:
        >>> found = measure(pair)
        >>> found.bands["measure"].nunique() > 5, len(found.claims)
        (True, 5)
    """
    return ExpertAnatomy(
        conditioning=conditioning(runs), similarity=similarity(runs), load=load_balance(runs), runs=tuple(runs)
    )
