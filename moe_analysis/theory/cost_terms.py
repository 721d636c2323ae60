"""One matrix product of a forward pass and the sum of several: the units of every adapter's cost.

Operations are those of matrix products, in multiply-accumulates (half a FLOP count). Additions of biases, activations,
softmax, and the elementwise products with gates and scores are left out, as in S'MoRE's statistics. `Term.paper` is
what the mathematics needs, with experts computed only where a token uses them; `Term.module` what our modules compute,
which touch every expert in dense products.
"""

from __future__ import annotations

from dataclasses import dataclass

IDLE = "dense product: idle experts too"


@dataclass(frozen=True)
class Term:
    """One matrix product of a forward pass, in multiply-accumulates.

    part: "experts" or "router". paper, module: a token. per_call: what the module computes once a forward pass (once a
    sample for T-REX's mapper), whatever the number of tokens. why: what makes module differ from paper.
    """

    part: str
    name: str
    paper: int
    module: int
    per_call: int = 0
    why: str = ""


@dataclass(frozen=True)
class Cost:
    """One adapted layer. active_parameters: of the experts that a token can use at most, with what all tokens share."""

    expert_parameters: int
    router_parameters: int
    active_parameters: int
    terms: tuple[Term, ...]

    @property
    def parameters(self) -> int:
        return self.expert_parameters + self.router_parameters

    def macs(self, part: str, column: str = "paper") -> int:
        """Sum of "paper", "module" or "per_call" over the terms of "experts" or "router"."""
        return sum(getattr(term, column) for term in self.terms if term.part == part)


def term(part: str, name: str, paper: int, module: int | None = None, per_call: int = 0, why: str = "") -> Term:
    """A `Term` whose reason stands only where there is a difference to explain."""
    module = paper if module is None else module
    return Term(part, name, paper, module, per_call, why if module != paper or per_call else "")
