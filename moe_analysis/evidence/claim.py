"""A statement of a paper or of ours, declared before it is measured, and its verdict afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pandas as pd

from ..cards.whose import whose
from .effect import Effect
from .verdict import CONFIDENCE, Judgement, exact, in_parts, judge, not_testable

KINDS = ("exact", "paper", "reproduction", "own")
NAN = float("nan")
FRAMED = (
    *("name", "source", "statement", "compares", "endpoint", "paper_effect", "smallest"),
    *("measured", "low", "high", "over", "verdict", "note"),
)  # what `claims_frame` shows of a claim


@dataclass(frozen=True)
class Claim:
    """One statement; every value can be stored as JSON.

    A theorem is made when it is checked: `Claim(name, source, statement, measured, expected, residual, holds)`. A
    measurement is declared first, `Claim(name, source, statement, compares=…, paper_effect=…)`, and judged afterwards
    by `with_effect`, `untestable`, `with_parts` or, for a family, `judged`; each gives a new claim with a verdict.

    Args:
        name: `<paper>_<item>_<aspect>`.
        source: paper and item; it begins with "our", "your" or "beyond" if no paper claims it, and with "an
            independent reproduction" if the number comes from one.
        statement: what is claimed, in words and symbols; it starts with "our reading:" if the paper's own wording is
            not public.
        measured: numbers, strings or lists of them; for a measurement the effect, above zero in the claimed direction.
        expected: what it should be; for a measurement the paper's effect.
        residual: distance between the two, 0.0 for an exact agreement.
        holds: the verdict on an exact statement.
        kind: "exact", "paper" for a measurement that a paper reports, "reproduction" for one of an independent
            reproduction, "own" for a hypothesis of ours. None: the source decides for a declared claim; any other
            claim is "exact".
        compares: what is subtracted from what, at which size, on which rows; a difference above zero agrees with the
            claim: "S'MoRE - LoRA" for an accuracy, "LoRA - S'MoRE" for a loss that is said to be lower.
        endpoint: the number that is compared, "acc" or "loss", with its unit in brackets.
        paper_effect: the paper's own effect for exactly this comparison, in the claimed direction; None if the paper
            only shows a plot.
        smallest: the smallest effect that matters, in the same unit; None is half the paper's.
        family: the label of the claims that the paper makes together; they are corrected together for their number.
        verdict: a word of `evidence.verdict`; empty until it is measured.
        low: the lower end of the interval that decided.
        high: its upper end.
        confidence: of that interval.
        over: what the interval is over, "5 seeds" or "10 tasks and 5 seeds".
        note: the reason of the verdict, if the word does not say it.
        parts: the claims of which this one consists.

    Raises:
        ValueError: for an impossible value, and for a value that JSON cannot store.

    Example:
        >>> claim = Claim("toy_sum", "arithmetic", "1 + 1 = 2", 1 + 1, 2, 0.0, True)
        >>> claim.verdict, claim.to_dict()["residual"]
        ('holds', 0.0)
        >>> ahead = Claim("toy_ahead", "a table", "A is ahead of B", compares="A - B", paper_effect=0.02)
        >>> ahead.smallest, ahead.with_effect(Effect([0.03, 0.02, 0.04])).verdict
        (0.01, 'reproduced')
    """

    name: str
    source: str
    statement: str
    measured: Any = None
    expected: Any = None
    residual: float = NAN
    holds: bool | None = None
    kind: str | None = None
    compares: str = ""
    endpoint: str = ""
    paper_effect: float | None = None
    smallest: float | None = None
    family: str = ""
    verdict: str = ""
    low: float = NAN
    high: float = NAN
    confidence: float = CONFIDENCE
    over: str = ""
    note: str = ""
    parts: Sequence[Claim] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "parts":
                object.__setattr__(self, field.name, _plain(getattr(self, field.name), f"{self.name}.{field.name}"))
        object.__setattr__(self, "parts", tuple(self.parts))
        if self.kind is None:
            object.__setattr__(self, "kind", self.whose if self.compares else "exact")
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}.kind = {self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        if self.kind not in ("exact", self.whose):
            raise ValueError(
                f"{self.name}.kind = {self.kind!r} but its source is {self.source!r}; pass kind={self.whose!r}, or "
                "correct the source"
            )
        if self.kind == "exact":
            self._check_exact()
        else:
            self._check_declared()

    @property
    def whose(self) -> str:
        """Whose claim it is: "paper", "reproduction" or "own"; for an exact one, source and statement decide."""
        return whose(self.kind, self.source, self.statement)

    def _check_exact(self) -> None:
        if self.holds is None and not self.parts:
            raise ValueError(
                f"{self.name} has neither holds nor compares; pass holds, or declare a measurement with compares"
            )
        if self.holds is not None and not isinstance(self.holds, bool):
            raise ValueError(f"{self.name}.holds = {self.holds!r} must be True or False; compare before you build it")
        if self.holds and not math.isfinite(self.residual):
            raise ValueError(f"{self.name}.residual = {self.residual} must be finite for a claim that holds")
        if self.holds is not None:
            object.__setattr__(self, "verdict", exact(self.holds).verdict)

    def _check_declared(self) -> None:
        if self.paper_effect is not None and not self.paper_effect > 0:
            raise ValueError(
                f"{self.name}.paper_effect = {self.paper_effect} must be above zero in the claimed "
                "direction; subtract the other way round"
            )
        if self.smallest is None and self.paper_effect is not None:
            object.__setattr__(self, "smallest", self.paper_effect / 2)
        if self.smallest is None and not self.parts:
            raise ValueError(
                f"{self.name} declares no smallest effect that matters; pass paper_effect, or smallest "
                "if the paper only shows a plot"
            )
        if self.smallest is not None and not self.smallest > 0:
            raise ValueError(f"{self.name}.smallest = {self.smallest} must be above zero")

    def with_effect(self, differences: Effect) -> Claim:
        """The claim, judged alone.

        Args:
            differences: as `compares` says; above zero they agree with the claim.

        Raises:
            ValueError: for a claim that already has a verdict, or that compares nothing.
        """
        self._check_open()
        return self._judged(judge(differences, self._threshold, self.kind == "own"), differences)

    def untestable(self, reason: str) -> Claim:
        """The claim if a precondition fails, which `reason` names.

        Raises:
            ValueError: as `with_effect`.
        """
        self._check_open()
        return self._judged(not_testable(reason), None)

    def with_parts(self, parts: Iterable[Claim]) -> Claim:
        """The claim with a verdict from those of its parts; raises ValueError if one of them has none yet.

        Its smallest effect that matters is that of every part, or None: each part is judged by its own.
        """
        parts = tuple(parts)
        if open_parts := [part.name for part in parts if not part.verdict]:
            raise ValueError(f"{self.name} has parts without a verdict: {', '.join(open_parts)}; measure them first")
        found = in_parts([part.verdict for part in parts])
        smallest = self.smallest if all(part.smallest == self.smallest for part in parts) else None
        return replace(self, verdict=found.verdict, note=found.note, smallest=smallest, parts=parts)

    @property
    def _threshold(self) -> float:
        return float("nan") if self.smallest is None else self.smallest

    def _check_open(self) -> None:
        if self.kind == "exact" or not self.compares:
            raise ValueError(f"{self.name} declares no comparison; pass compares when you make the claim")
        if self.verdict:
            raise ValueError(
                f"{self.name} already has the verdict {self.verdict!r}; declare a new claim for a new measurement"
            )

    def _judged(self, found: Judgement, effect: Effect | None) -> Claim:
        value = None if effect is None or effect.fault else effect.value
        return replace(
            self,
            measured=value,
            expected=self.paper_effect,
            verdict=found.verdict,
            note=found.note,
            low=found.low,
            high=found.high,
            confidence=found.confidence,
            over="" if effect is None else effect.over,
        )

    def _repr_html_(self) -> str:
        """For a notebook: the claim as a card."""
        from ..cards.claims import shown
        from ..cards.templates import cell_html

        nothing = dict.fromkeys(("title", "question", "how_to_read", "origin", "picture", "in_short"), "")
        return cell_html("notebook.html", **nothing, claims=[shown(described(self))], tables={})

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary, ready for `json.dumps`; numbers that are not there are None."""
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in (asdict(self) | {"parts": [part.to_dict() for part in self.parts]}).items()
        }


def claims_frame(claims: Iterable[Claim]) -> pd.DataFrame:
    """One row per claim, followed by its parts: the declaration, the effect with its interval, the verdict.

    Columns: claim, source, statement, compares, endpoint, paper_effect, smallest, effect, low, high, over, verdict,
    note. The effect and its interval are in the claimed direction.

    Example:
        >>> ahead = Claim("toy_ahead", "a table", "A is ahead of B", compares="A - B", paper_effect=0.02)
        >>> claims_frame([ahead.with_effect(Effect([0.03, 0.02, 0.04]))])[["effect", "low", "verdict"]].round(3)
           effect    low     verdict
        0    0.03  0.005  reproduced
    """
    frame = pd.DataFrame([[getattr(claim, name) for name in FRAMED] for claim in _flat(claims)], columns=list(FRAMED))
    numbers = frame.astype(dict.fromkeys(("paper_effect", "smallest", "low", "high"), float))
    numbers["measured"] = numbers["measured"].where(numbers["measured"].notna(), NAN).infer_objects()
    return numbers.rename(columns={"name": "claim", "measured": "effect"})


def _flat(claims: Iterable[Claim]) -> Iterator[Claim]:
    """Each claim and, after it, its parts."""
    for claim in claims:
        yield claim
        yield from _flat(claim.parts)


def described(claim: Claim) -> dict[str, Any]:
    """A claim as a reader sees it, with the numbers behind the words.

    Returns:
        source, claim, paper, measured, spread, verdict: texts. name, kind, whose, compares, endpoint, note, effect,
        low, high, smallest, paper_effect, confidence: as in `Claim`, None if there is none. parts: the same for each
        part.

    Example:
        >>> ahead = Claim("toy_ahead", "a table", "A is ahead of B", compares="A - B", endpoint="acc", paper_effect=0.02)
        >>> told = described(ahead.with_effect(Effect([0.03, 0.02, 0.04])))
        >>> told["paper"], told["measured"], told["spread"]
        ('A - B = 0.02 (acc)', '0.03', '95 % interval [0.00516, 0.0548] over 3 seeds')
    """
    exact_one = claim.kind == "exact"
    numbers = {name: getattr(claim, name) for name in ("low", "high", "smallest", "paper_effect", "confidence")}
    return {
        "source": claim.source,
        "claim": claim.statement,
        "paper": _text(claim.expected) if exact_one else _declared(claim),
        "measured": _text(claim.measured),
        "spread": "exact" if exact_one else _spread(claim),
        "verdict": claim.verdict,
        "name": claim.name,
        "kind": claim.kind,
        "whose": claim.whose,
        "compares": claim.compares,
        "endpoint": claim.endpoint,
        "note": claim.note,
        "effect": None if exact_one else claim.measured,
        **{name: None if exact_one or value is None or math.isnan(value) else value for name, value in numbers.items()},
        "parts": [described(part) for part in claim.parts],
    }


def _declared(claim: Claim) -> str:
    """What was compared, and the paper's effect or the smallest one that matters."""
    endpoint = f" ({claim.endpoint})" if claim.endpoint else ""
    if claim.paper_effect is not None:
        return f"{claim.compares} = {claim.paper_effect:.3g}{endpoint}"
    least = "" if claim.smallest is None else f"; {claim.smallest:.3g} or more matters"
    return f"{claim.compares}{endpoint}{least}"


def _spread(claim: Claim) -> str:
    if math.isnan(claim.low):
        return f"{len(claim.parts)} parts" if claim.parts else ""
    return f"{100 * claim.confidence:.3g} % interval [{claim.low:.3g}, {claim.high:.3g}] over {claim.over}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)


def _plain(value: Any, where: str) -> Any:
    """NumPy and torch scalars and arrays as Python values; ValueError for a value that JSON cannot store."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, where) for key, item in value.items()}
    raise ValueError(f"{where} = {value!r} is not a JSON value; pass numbers, strings, lists or dictionaries")
