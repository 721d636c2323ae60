import os

THREADS = int(os.environ.get("MOE_ANALYSIS_TEST_THREADS", "1"))
# before numpy and torch are imported, and for the processes that tests start
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
