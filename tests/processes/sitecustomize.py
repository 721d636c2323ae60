"""Python reads this file at the start of every process that a test starts: garbage is collected as rarely as in tests,
and jsonschema compiles no grammars of addresses, see tests/__init__.py.

To import torch, transformers and PEFT makes a million objects that stay. To look through them again and again takes a
sixth of the import, and to look through them once more when the process ends takes as long.
"""

import atexit
import gc
import sys

sys.modules.setdefault("rfc3987_syntax", None)
gc.set_threshold(1_000_000, 10, 10)
atexit.register(gc.freeze)
