"""After `import moe_analysis`, PEFT knows our adapters, whichever was imported first; nothing heavy comes with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .new_process import ROOT, printed

KNOWN = """
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as known
print('SMORE' in known, 'MOELORA' in known, PeftConfig.from_peft_type(peft_type='TREX', num_up=5).num_up)
"""
ORDERS = (
    "import moe_analysis, peft",
    "import peft, moe_analysis",
    "import moe_analysis; from peft import PeftModel",
    "import moe_analysis.adapters",
    "import moe_analysis; from transformers import AutoModelForCausalLM; import peft",
    "import moe_analysis; from transformers.utils import is_peft_available; is_peft_available(); import peft",
    "import moe_analysis as ma; ma.load_backbone('compact'); import peft",
)
SAVED = Path(__file__).parent / "data" / "adapters_0_1" / "smore"
LOADED = f"""
import moe_analysis
from peft import PeftConfig
print(type(PeftConfig.from_pretrained({str(SAVED)!r})).__name__)
"""
LEAVES = "import sys; sys.modules['peft'] = None; print('left')"
FAILS = "import sys; print('peft' in sys.modules); 1 / 0"


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """What each piece of code prints."""
    codes = {order: f"{order}\n{KNOWN}" for order in ORDERS} | {"loaded": LOADED, "leaves": LEAVES, "fails": FAILS}
    return dict(zip(codes, printed(*codes.values()), strict=True))


@pytest.mark.parametrize("order", ORDERS)
def test_peft_knows_our_adapters_in_any_order_of_imports(told, order):
    assert told[order] == "True True 5\n"


def test_transformers_loads_a_folder_of_ours_after_the_import_alone(told):
    assert told["loaded"] == "SmoreConfig\n"


def test_the_package_itself_imports_neither_torch_nor_peft():
    code = "import moe_analysis, sys; print('torch' in sys.modules, 'peft' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout == "False False\n", done.stderr


def test_a_piece_of_code_sees_nothing_that_another_left_and_tells_its_error(told):
    assert told["leaves"] == "left\n"
    assert told["fails"].startswith("False\nTraceback") and "ZeroDivisionError" in told["fails"]
