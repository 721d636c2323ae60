"""After `import moe_analysis`, PEFT knows our adapters, whichever was imported first; nothing heavy comes with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KNOWN = "from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as known; print('SMORE' in known, 'MOELORA' in known)"


def said(code: str) -> str:
    root = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "order",
    [
        "import moe_analysis, peft",
        "import peft, moe_analysis",
        "import moe_analysis; from peft import PeftModel",
        "import moe_analysis.adapters",
    ],
)
def test_peft_knows_our_adapters_in_any_order_of_imports(order):
    assert said(f"{order}; {KNOWN}") == "True True"


def test_the_package_itself_imports_neither_torch_nor_peft():
    assert said("import moe_analysis, sys; print('torch' in sys.modules, 'peft' in sys.modules)") == "False False"


def test_transformers_loads_a_folder_of_ours_after_the_import_alone(tmp_path):
    folder = Path(__file__).parent / "data" / "adapters_0_1" / "smore"
    code = (
        f"import moe_analysis; from peft import PeftConfig; print(type(PeftConfig.from_pretrained({str(folder)!r}))"
        ".__name__)"
    )
    assert said(code) == "SmoreConfig"
