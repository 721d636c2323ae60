"""Runs side by side: the settings in which they differ, how they learned, and their results.

Nothing is imported here: the list of runs uses `settings` from this package and must not wait for torch.
"""

from __future__ import annotations
