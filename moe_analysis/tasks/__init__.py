"""Task suites as frames, embeddings of their prompts, semantic clusters and intuition."""

from __future__ import annotations

from .clusters import ClusterError, Clusters, cluster
from .embed import Embedder, EmbeddingError, embed
from .suite import SuiteError, SuiteWarning, baselines, load_suite, suite_folder, suite_manifest, task_roles

__all__ = [
    "ClusterError",
    "Clusters",
    "Embedder",
    "EmbeddingError",
    "SuiteError",
    "SuiteWarning",
    "baselines",
    "cluster",
    "embed",
    "load_suite",
    "suite_folder",
    "suite_manifest",
    "task_roles",
]
