"""moe_analysis: train, watch and check mixtures of low-rank experts.

Names are imported when they are first used, so that `import moe_analysis` loads only what is needed. PEFT and
transformers load our adapters once this package is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .noise import overlook_notices
from .registration import register_with_peft

__version__ = "0.1.0"

overlook_notices()

# name -> module; `__init__.pyi` says the same to editors and type checkers

SOURCES = {
    "load_suite": "tasks.suite",
    "embed": "tasks.embed",
    "cluster": "tasks.clusters",
    "load_backbone": "backbones",
    "TrainConfig": "training.config",
    "train": "training.trainer",
    "Run": "training.run",
    "compare_runs": "run_comparison.comparison",
    "results": "campaigns.results",
    "attach": "training.recorders.attach",
    "AttachedRun": "training.recorders.attached_run",
    "open_records": "training.recorders.store",
    "match_budget": "comparison",
    "use_adapter": "peft_bridge",
    "hotswap_adapter": "peft_bridge.hotswap",
    "set_intuition": "peft_bridge.intuition",
    **dict.fromkeys(
        ("HydraLoraConfig", "MoeLoraConfig", "MomorConfig", "SiraConfig", "SmoreConfig", "TRexConfig"), "peft_bridge"
    ),
}
PACKAGES = (
    "adapters",
    "drawing",
    "evidence",
    "optim",
    "papers",
    "studies",
    "tasks",
    "theory",
    "training",
)

__all__ = ["__version__", *SOURCES, *PACKAGES]


def __getattr__(name: str) -> Any:
    if name in SOURCES:
        return getattr(import_module(f".{SOURCES[name]}", __name__), name)
    if name in PACKAGES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, loaded or not: what completion offers."""
    return sorted(__all__)


register_with_peft()
