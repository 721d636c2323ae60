"""The shapes in the signatures are true: a process that checks them at every call finds none that is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import PROCESSES

from .cases import CASES

ROOT = Path(__file__).parents[2]
PASSES = "from tests.adapters.every_shape import main; main()"
THEORY = """
from moe_analysis.theory import checked, router_noise, trex_approximation

router_noise.router_gradient_noise((0,), steps=(0, 1), samples=8)
trex_approximation.approximation_errors(trex_approximation.target_family("shared"), 144, num_experts=2, restarts=1)
# of the claims those of seconds
short = ["gr_*", "smore_prop*", "smore_coll*", "smore_cor3*", "smore_cost_*", "smore_thm3[34]_[ams]*"]
short += ["trex_lemma_4_1_[ek]*", "trex_theorem_4_2_[fs]*", "trex_theorem_4_3_[bor]*"]
claims = checked(short)
print(len(claims), [one.name for one in claims if not one.holds])
"""
REFUSED = """
import torch
from moe_analysis.adapters import MoeLora, MoeLoraConfig, Routing, fused, gates, rescale
from moe_analysis.theory import smore_relatives

layer = MoeLora(6, 5, MoeLoraConfig(num_experts=4))
rescale.down_factors(torch.rand(4, 2, 6)), fused.product(torch.rand(5, 6), torch.rand(2, 6), None), Routing(torch.ones(4))
for call, *arguments in [
    (rescale.down_factors, torch.rand(2, 6)),
    (gates.top_k_softmax, torch.ones(3, 4, dtype=torch.long), 2),
    (fused.product, torch.rand(5, 6), torch.rand(2, 7), None),
    (layer._gate, torch.rand(3, 4), torch.rand(2, 4), None),
    (Routing, torch.rand(3, 4), torch.rand(3)),
    (smore_relatives.relative_gap, torch.rand(3, 4), torch.rand(4)),
]:
    try:
        call(*arguments)
    except Exception as error:
        print(type(error).__name__, *[line for line in str(error).splitlines() if "whilst typechecking" in line])
"""


# to import everything with its checks takes ten seconds, so that one process does it for all
PROCESS = """
import contextlib, io, json, sys, traceback
from tests.checked_shapes import check_shapes

check_shapes()
told = {}
for name, part in json.loads(sys.argv[1]).items():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            exec(part, {})
        except Exception:
            traceback.print_exc(file=out)
    told[name] = out.getvalue()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """What each part prints in a process whose shapes are checked, the traceback of its error too."""
    parts = json.dumps({"passes": PASSES, "theory": THEORY, "refused": REFUSED})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), PROCESSES])}
    command = [sys.executable, "-c", PROCESS, parts]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_system_keeps_the_shapes_of_its_signatures_forward_and_backward(told) -> None:
    passes = 12 * len(CASES)  # three forms of input, with and without context, beside a frozen layer and alone
    assert told["passes"].split() == [str(passes), "passes"]


def test_the_theorems_hold_where_every_shape_is_checked(told) -> None:
    assert told["theory"].strip() == "32 []"


def test_a_wrong_shape_or_a_wrong_kind_of_number_is_refused(told) -> None:
    lines = told["refused"].splitlines()
    assert [line.split()[0] for line in lines] == ["TypeCheckError"] * 6
    wanted = ("'A'", "'logits'", "'factors'", "'raw_scale'", "'balance_loss'", "'wanted'")
    assert all(name in line for name, line in zip(wanted, lines, strict=True)), lines
