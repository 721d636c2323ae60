"""Many runs: what a sweep is, where its runs are trained, and their progress."""

from .executors import end_with_parent, shared_pool
from .running import Sweep, read_once, sweep, train_all

__all__ = ["Sweep", "end_with_parent", "read_once", "shared_pool", "sweep", "train_all"]
