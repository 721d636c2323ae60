"""Python reads this file at the start of every process that a test starts: garbage is collected as rarely as in tests.

To import torch, transformers and PEFT makes a million objects that stay, and to look through them again and again takes
a sixth of the import.
"""

import gc

gc.set_threshold(100_000, 10, 10)
