"""Which of its trees does a trained S'MoRE use, and what do the nodes of a tree add? Beyond the paper."""

from __future__ import annotations

from .measure import TokenTree, UsedTrees, measure, measure_tree

__all__ = ["TokenTree", "UsedTrees", "measure", "measure_tree"]
