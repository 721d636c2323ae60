"""Batches of rows of like length: less padding, in an order that follows from seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

# batches whose rows are sorted together: questions of twenty data sets, twice their length with padding, are left with
# an eighth, and a batch of 16 still has rows of seven
POOL = 16


class LikeLengths(Sampler[int]):
    """Every row once per epoch, in batches of like length.

    Rows are shuffled and dealt into pools of `POOL` batches. A pool is sorted by length, and all batches are shuffled
    again. Any epoch can be drawn at once, so a run that is resumed goes on with the rows that it would have had.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of a batch, all that a step accumulates; the last one of an epoch has what is left.
        seed: Of the run.

    Example:
        >>> sampler = LikeLengths([9, 1, 8, 2], batch_size=2, seed=0)
        >>> sorted(sorted(sampler.lengths[i] for i in batch) for batch in np.array(list(sampler)).reshape(2, 2))
        [[1, 2], [8, 9]]
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = list(lengths), batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order, lengths = random.permutation(len(self)), np.array(self.lengths)
        whole = len(order) // self.batch_size * self.batch_size
        pools = np.split(order[:whole], range(POOL * self.batch_size, whole, POOL * self.batch_size))
        rows = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        batches = random.permutation(rows.reshape(-1, self.batch_size))  # of whole batches, row by row
        yield from batches.ravel().tolist()
        yield from order[whole:].tolist()
