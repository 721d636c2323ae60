"""The headlines of T-REX and S'MoRE on accuracy, judged by rules that were fixed before anything was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .generalization import INSIDE, OUTSIDE
from .intervals import MIN_SEEDS

ALPHA = 0.05
HEADLINE = 0.0178  # T-REX: the largest gain in mean accuracy, read as percentage points
SAVING = (0.30, 0.40)  # T-REX: share of the others' trainable parameters that it does without
EQUAL = 0.05  # counts that differ by no more were made equal
REPRODUCED, NOT_REPRODUCED, UNTESTABLE = "reproduced", "not reproduced", "not testable at this scale"


class Headline(NamedTuple):
    """One claim of a paper: `better` has the higher mean accuracy than each of `others` in a part of the suite."""

    source: str
    claim: str  # "{better}" and "{worse}" are filled in
    paper: str
    part: str
    better: str
    others: tuple[str, ...]


LORA_BASED = ("LoRA", "LoRA-MoE", "SiRA")
HEADLINES = (
    Headline(
        "T-REX, headline",
        "{better} has a higher mean accuracy than {worse} in distribution",
        "up to +1.78 % over other LoRA-based methods, 14 data sets",
        INSIDE,
        "T-REX",
        LORA_BASED,
    ),
    Headline(
        "T-REX Fig. 3",
        "{better} has a higher out-of-distribution accuracy than {worse}",
        "drawn above it on the tasks of BBH, no number",
        OUTSIDE,
        "T-REX",
        LORA_BASED,
    ),
    Headline(
        "T-REX, ablation",
        "intuition helps in distribution: {better} over {worse}",
        "claimed, no number",
        INSIDE,
        "T-REX",
        ("mix-and-match",),
    ),
    Headline(
        "T-REX, ablation",
        "intuition helps out of distribution: {better} over {worse}",
        "claimed, no number",
        OUTSIDE,
        "T-REX",
        ("mix-and-match",),
    ),
    Headline(
        "S'MoRE, headline",
        "{better} has a higher mean accuracy than {worse} at equal budget",
        "better at equal budget on seven public data sets",
        INSIDE,
        "S'MoRE",
        ("LoRA", "MixLoRA", "HydraLoRA"),
    ),
)


def verdict_on(pair: Mapping[str, Any], testable: bool = True, effect: float = HEADLINE) -> str:
    """The rule for one row of `comparisons` (difference, low, high, p_holm, seeds), better minus worse.

    "not testable at this scale" with fewer than three seeds, or where `testable` is False: no system of the part is
    above guessing, that is over the interval of the better of chance and majority. Else "reproduced" when the
    difference is positive and its Holm-corrected p is below 5 %; "not reproduced" when the 95 % interval lies below
    the claimed effect; and "not testable at this scale" in between, for then the tasks and seeds can tell the effect
    neither from nothing nor from more. Where a paper gives no number, the effect is the largest gain that T-REX
    reports, 1.78 points.
    """
    if pair["seeds"] < MIN_SEEDS or not testable or not np.isfinite(pair["p_holm"]):
        return UNTESTABLE
    if pair["difference"] > 0 and pair["p_holm"] < ALPHA:
        return REPRODUCED
    return NOT_REPRODUCED if pair["high"] < effect else UNTESTABLE


def generalization_claims(pairs: pd.DataFrame, summary: pd.DataFrame, guessing: pd.DataFrame) -> pd.DataFrame:
    """A row a headline and pair: columns source, claim, paper, measured, spread, verdict; the rule is `verdict_on`.

    pairs: `comparisons` of all methods. summary: `part_summary`. guessing: `against_level` of "guess". Intervals come
    from resampled tasks and seeds, p is Holm-corrected over all pairs of methods. Raises ValueError when a method of a
    headline, or the out-of-distribution part, is missing.

    >>> table = generalization_claims(pairs, summary, guessing)
    >>> table[["claim", "verdict"]].values.tolist()[0]
    ['T-REX has a higher mean accuracy than LoRA in distribution', 'reproduced']
    """
    rows = []
    for headline in HEADLINES:
        rows += [judged(headline, worse, pairs, summary, guessing) for worse in headline.others]
    return pd.DataFrame(rows)


def adapter_claims(name: str, pairs: pd.DataFrame, summary: pd.DataFrame, guessing: pd.DataFrame) -> pd.DataFrame:
    """An adapter of your own against every other method of the comparison, part by part, by the rule of the headlines.

    name: its label. The other arguments and the columns are as for `generalization_claims`. Raises ValueError for a
    label that was not compared.

    >>> found = adapter_claims("T-REX", pairs, summary, guessing)
    >>> len(found), found["verdict"].unique().tolist()  # eight others, in and out of distribution
    (16, ['reproduced', 'not testable at this scale'])
    """
    others = tuple(dict.fromkeys(method for method in summary["method"] if method != name))
    text = "{better} has a higher mean accuracy than {worse} "
    headlines = [
        Headline("own adapter", text + where, "nothing claimed", part, name, others)
        for part, where in ((INSIDE, "in distribution"), (OUTSIDE, "out of distribution"))
    ]
    rows = [judged(headline, worse, pairs, summary, guessing) for headline in headlines for worse in others]
    return pd.DataFrame(rows)


def judged(
    headline: Headline, worse: str, pairs: pd.DataFrame, summary: pd.DataFrame, guessing: pd.DataFrame
) -> dict[str, str]:
    """One headline against one of its others as a row of claims."""
    above = guessing[guessing["part"] == headline.part].set_index("method")["above"]
    pair = find_pair(pairs, headline.part, headline.better, worse)
    return {
        "source": headline.source,
        "claim": headline.claim.format(better=headline.better, worse=worse),
        "paper": headline.paper,
        "measured": f"{means(summary, headline.part, (headline.better, worse))}; "
        f"{int(above.sum())} of {len(above)} systems above guessing",
        "spread": f"difference {100 * pair['difference']:+.1f} points, 95 % interval "
        f"[{100 * pair['low']:+.1f}, {100 * pair['high']:+.1f}], Holm p {pair['p_holm']:.3f}, over "
        f"{int(pair['tasks'])} tasks and {int(pair['seeds'])} paired seeds",
        "verdict": verdict_on(pair, bool(above.any())),
    }


def find_pair(pairs: pd.DataFrame, part: str, better: str, worse: str) -> dict[str, Any]:
    """The row of `comparisons` for better minus worse, turned round where it stands the other way."""
    inside = pairs[pairs["part"] == part]
    for first, second, sign in ((better, worse, 1.0), (worse, better, -1.0)):
        found = inside[(inside["method"] == first) & (inside["against"] == second)]
        if len(found):
            row: dict[Any, Any] = found.iloc[0].to_dict()
            low, high = sorted((sign * row["low"], sign * row["high"]))
            return {**row, "difference": sign * row["difference"], "low": low, "high": high}
    raise ValueError(
        f"pairs compares no {better!r} with {worse!r} in the part {part!r}; pass the comparisons of all "
        "methods, in and out of distribution"
    )


def means(summary: pd.DataFrame, part: str, methods: tuple[str, str]) -> str:
    """ "accuracy: A 0.512, B 0.480; loss 0.61, 0.63", means over tasks and seeds."""
    rows = summary[summary["part"] == part]
    accuracy, loss = (rows[rows["measure"] == measure].set_index("method")["mean"] for measure in ("accuracy", "loss"))
    found = ", ".join(f"{method} {accuracy[method]:.3f}" for method in methods)
    return f"accuracy: {found}; loss " + ", ".join(f"{loss[method]:.3f}" for method in methods)


def saving_claims(counts: Mapping[str, int], better: str = "T-REX") -> pd.DataFrame:
    """ "30-40 % fewer trainable parameters than other LoRA-based methods": a row for each other method in counts.

    counts: method -> trainable parameters, at the sizes of the authors' code; there rank 32 in all, which is 8 experts
    of rank 4, faces 4 down and 8 up vectors. Counts are exact, so the spread is none. "reproduced" when the share
    saved, 1 - better / other, is at least 30 %; else "not reproduced". Two counts within 5 % of each other were made
    equal by whoever chose the sizes, as in our comparisons at equal budget: what is saved there is nothing by
    construction, and the claim becomes the one on accuracy, so the verdict is "not testable at this scale". Raises
    ValueError when counts lacks `better`, or has nothing else.

    >>> saving_claims({"T-REX": 60_000, "LoRA-MoE": 100_000})[["measured", "verdict"]].values.tolist()
    [['T-REX 60,000, LoRA-MoE 100,000: 40.0 % fewer', 'reproduced']]
    """
    if better not in counts or len(counts) < 2:
        raise ValueError(f"counts has {', '.join(counts)}; it needs {better!r} and one other method")
    rows = []
    for other, count in counts.items():
        if other == better:
            continue
        saved = 1 - counts[better] / count
        equal = abs(saved) <= EQUAL
        rows.append(
            {
                "source": "T-REX, headline",
                "claim": f"{better} trains fewer parameters than {other}",
                "paper": f"{100 * SAVING[0]:.0f}–{100 * SAVING[1]:.0f} % fewer than other LoRA-based methods",
                "measured": f"{better} {counts[better]:,}, {other} {count:,}: {100 * abs(saved):.1f} % "
                f"{'fewer' if saved >= 0 else 'more'}{' (budgets were made equal)' if equal else ''}",
                "spread": "none: counted",
                "verdict": UNTESTABLE if equal else REPRODUCED if saved >= SAVING[0] else NOT_REPRODUCED,
            }
        )
    return pd.DataFrame(rows)
