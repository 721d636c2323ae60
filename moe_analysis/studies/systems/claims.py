"""What T-REX claims about accuracy and size, declared before measuring, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ...cards.in_words import percent
from ...evidence import Claim, Effect, judged
from .endpoints import (
    BASE,
    ENDPOINTS,
    MEANING,
    effect,
    effect_of,
    inside_parts,
    kept_scores,
    versions,
    within_guessing,
)
from .measure import Compared, Systems
from .scores import OUTSIDE, crossed

METHOD, CONTROL = "T-REX", "mix-and-match"
ABLATION = "our reading of T-REX's ablation"  # we know that it leaves out the intuition, and none of its numbers
LORA_BASED = ("LoRA", "LoRA-MoE", "SiRA")
# half of "up to +1.78 %": the paper's largest gain over any of them, and its gains over each are not public to us
HEADLINE = 0.0178 / 2
DRAWN = 0.01  # the paper draws, or says that it helps, without a number: a point is what a reader of a table would see
SAVING = (0.30, 0.40)  # share of the others' trainable parameters that it does without
ROUNDING = 0.01  # of a share that was made by whole ranks


def claims(found: Systems) -> list[Claim]:
    """The headline on each endpoint, Fig. 3, the ablation, the saved parameters, and both parts of the headline at once."""
    inside = inside_parts(found.scores)
    return [
        *(versus(found, "trex_headline", "T-REX, headline", part, METHOD, LORA_BASED, HEADLINE) for part in inside),
        versus(found, "trex_fig3", "T-REX Fig. 3", OUTSIDE, METHOD, LORA_BASED, DRAWN),
        *(
            versus(found, "trex_intuition", ABLATION, part, METHOD, (CONTROL,), DRAWN, kind="own")
            for part in (*inside, OUTSIDE)
        ),
        saving(found.authors),
        *(joint(found, part) for part in inside),
    ]


def saving(authors: pd.DataFrame) -> Claim:
    """ "30–40 % fewer trainable parameters than other LoRA-based methods", counted at the sizes of the authors' code."""
    counts = authors.set_index("method")["trainable"]
    shares = {other: 1 - int(counts[METHOD]) / int(counts[other]) for other in LORA_BASED}
    parts = [
        Claim(
            f"trex_headline_saving_{other}",
            "T-REX, headline",
            f"T-REX has at least {percent(SAVING[0])} fewer trainable parameters than {other}",
            measured=share,
            expected=SAVING[0],
            residual=max(0.0, SAVING[0] - share),
            holds=share >= SAVING[0],
        )
        for other, share in shares.items()
    ]
    least = min(shares.values())
    return Claim(
        "trex_headline_saving",
        "T-REX, headline",
        f"at its authors' sizes T-REX has at least {percent(SAVING[0])} fewer trainable parameters than the others",
        measured=least,
        expected=SAVING[0],
        residual=max(0.0, SAVING[0] - least),
        holds=least >= SAVING[0],
        parts=parts,
    )


def joint(found: Systems, part: str) -> Claim:
    """The headline as a whole: more accurate, and with fewer parameters."""
    name, source = "trex_headline_smaller", "T-REX, headline"
    if small := smaller(found):
        return versus(found, name, source, part, small, LORA_BASED, HEADLINE)
    return Claim(
        f"{name}_{ENDPOINTS[part].replace(' ', '_')}",
        source,
        f"{ENDPOINTS[part]}: T-REX of fewer parameters is more accurate than {', '.join(LORA_BASED)}",
        compares=f"{METHOD} - each of them",
        endpoint=f"accuracy, {MEANING[part]}",
        smallest=HEADLINE,
    ).untestable(f"no T-REX with {percent(SAVING[0])} to {percent(SAVING[1])} fewer parameters was trained")


def smaller(found: Compared) -> str | None:
    """The label of a T-REX that does without the claimed share of each other system's parameters."""
    counts = found.costs.set_index("method")["trainable"]
    others = [int(counts[label]) for other in LORA_BASED for label in versions(counts.index, other)]
    for label in counts.index:
        if str(label).startswith(METHOD) and others and 1 - int(counts[label]) / min(others) >= SAVING[0] - ROUNDING:
            return str(label)
    return None


def versus(
    compared: Compared,
    name: str,
    source: str,
    part: str,
    method: str,
    others: Sequence[str],
    smallest: float | None = None,
    effects: Mapping[str, float] | None = None,
    kind: str = "paper",
) -> Claim:
    """One claim on one endpoint: `method` is more accurate than each of `others`, corrected together for their number.

    Args:
        compared: the result; its scores, tasks and guessing are read.
        name, source: of the claim; the endpoint is added to the name.
        part: of the tests.
        method, others: what is compared; the claim has a part for each of the others, and for each of their versions.
        smallest: the smallest effect that matters, where the paper gives no number.
        effects: other -> the paper's own effect against that very one, where it gives one.
        kind: "own" for our own hypothesis.
    """
    others = [label for other in others for label in versions(compared.methods, other) or [other]]
    name = f"{name}_{ENDPOINTS[part].replace(' ', '_')}"
    words = f"{ENDPOINTS[part]}: {method} is more accurate than"
    endpoint = f"accuracy, {MEANING[part]}"
    parts = [
        Claim(
            name if len(others) == 1 else f"{name}_{other.replace(' ', '_')}",
            source,
            f"{words} {other}",
            kind=kind,
            compares=f"{method} - {other}",
            endpoint=endpoint,
            paper_effect=(effects or {}).get(other),
            smallest=None if other in (effects or {}) else smallest,
            family=name,
        )
        for other in others
    ]
    found = judged(
        parts,
        {
            claim.name: effect(compared.scores, compared.tasks, compared.guessing, part, method, other)
            for claim, other in zip(parts, others)
        },
    )
    if len(found) == 1:
        return found[0]
    whole = Claim(
        name,
        source,
        f"{words} {', '.join(others[:-1])} and {others[-1]}",
        kind=kind,
        compares=f"{method} - each of them",
        endpoint=endpoint,
        smallest=parts[0].smallest,
    )
    return whole.with_parts(found)


def trained(
    compared: Compared,
    name: str,
    source: str,
    part: str,
    effects: Mapping[str, float] | None = None,
    kind: str = "paper",
    methods: Sequence[str] | None = None,
) -> Claim:
    """On one endpoint every one of `methods`, or of all systems, is more accurate than the model that it started from;
    other arguments as of `versus`."""
    methods = compared.methods if methods is None else methods
    where, words = ENDPOINTS[part], "is more accurate than before training"
    name = f"{name}_{where.replace(' ', '_')}"
    endpoint = f"accuracy, {MEANING[part]}"
    parts = [
        Claim(
            f"{name}_{method.replace(' ', '_')}",
            source,
            f"{where}: {method} {words}",
            kind=kind,
            compares=f"{method} - {BASE}",
            endpoint=endpoint,
            paper_effect=(effects or {}).get(method),
            smallest=None if method in (effects or {}) else DRAWN,
            family=name,
        )
        for method in methods
    ]
    found = {claim.name: over_base(compared, part, method) for claim, method in zip(parts, methods)}
    whole = Claim(
        name,
        source,
        f"{where}: {'every system' if len(methods) == len(compared.methods) else ', '.join(methods)} {words}",
        kind=kind,
        compares=f"each - {BASE}",
        endpoint=endpoint,
        smallest=parts[0].smallest,
    )
    return whole.with_parts(judged(parts, found))


def over_base(compared: Compared, part: str, method: str) -> Effect | str:
    """A system less the base model on the tasks of a part that count; a text where there is nothing to compare."""
    if reason := within_guessing(compared.tasks, compared.guessing, part):
        return reason
    rows = kept_scores(compared.scores, compared.tasks, part)
    if rows.empty:
        return "every task is at floor or ceiling"
    own = crossed(rows, method, "accuracy")  # (tasks, seeds)
    levels = compared.levels.assign(place=compared.levels["part"] + "/" + compared.levels["dataset"]).set_index("place")
    untrained = levels.loc[own.index, "untrained"]
    if untrained.isna().any():
        return "the table holds no base model that was tested on the same rows"
    return effect_of(own.sub(untrained, axis=0), compared.tasks, part)
