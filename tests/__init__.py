import gc
import os
import sys
from pathlib import Path

THREADS = int(os.environ.get("MOE_ANALYSIS_TEST_THREADS", "1"))
# before numpy and torch are imported, and for the processes that tests start
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
# tests that compile spent a tenth of their time looking for garbage; accelerate collects what a run leaves, at every run
gc.set_threshold(100_000, 10, 10)
# jsonschema, which nbformat and JupyterLab import, would compile 38 grammars of addresses, for seconds
sys.modules.setdefault("rfc3987_syntax", None)
PROCESSES = str(Path(__file__).with_name("processes"))  # says the same to the processes that tests start
paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
if PROCESSES not in paths:
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, PROCESSES])  # last, behind a sitecustomize of others
