"""The names that the package loads when they are first used, as editors and type checkers read them."""

from . import adapters as adapters
from . import drawing as drawing
from . import evidence as evidence
from . import optim as optim
from . import papers as papers
from . import studies as studies
from . import tasks as tasks
from . import theory as theory
from . import training as training
from .backbones import load_backbone as load_backbone
from .campaigns.results import results as results
from .comparison import match_budget as match_budget
from .peft_bridge import HydraLoraConfig as HydraLoraConfig
from .peft_bridge import MoeLoraConfig as MoeLoraConfig
from .peft_bridge import MomorConfig as MomorConfig
from .peft_bridge import SiraConfig as SiraConfig
from .peft_bridge import SmoreConfig as SmoreConfig
from .peft_bridge import TRexConfig as TRexConfig
from .peft_bridge import use_adapter as use_adapter
from .peft_bridge.hotswap import hotswap_adapter as hotswap_adapter
from .peft_bridge.intuition import set_intuition as set_intuition
from .run_comparison.comparison import compare_runs as compare_runs
from .tasks.clusters import cluster as cluster
from .tasks.embed import embed as embed
from .tasks.suite import load_suite as load_suite
from .training.config import TrainConfig as TrainConfig
from .training.recorders.attach import attach as attach
from .training.recorders.attached_run import AttachedRun as AttachedRun
from .training.recorders.store import open_records as open_records
from .training.run import Run as Run
from .training.trainer import train as train

__version__: str
