"""Runs side by side: the settings in which they differ, how they learnt, and what came out.

Nothing is imported here: the list of runs takes `settings` from this package and must not wait for torch.
"""

from __future__ import annotations
