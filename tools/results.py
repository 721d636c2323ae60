"""Write docs/results.md from the records in figures/: every claim with its effect, interval, verdict and origin; and the
table of README.md, which shows a few of them.

    python tools/results.py [--check]

--check writes nothing and fails where a file is not what the records say.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moe_analysis.cards.in_words import FROM_STORED
from moe_analysis.cards.whose import WHOSE, whose
from moe_analysis.evidence.verdict import NOT_TESTABLE
from moe_analysis.papers import BEYOND, GR, SMORE, TREX, Item
from moe_analysis.studies.in_short import leaves, measured

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- by tools/results.py -->\n", "<!-- end -->\n"
PAPERS = {
    "T-REX": TREX,
    "A Stronger Mixture of Low-Rank Experts (gR)": GR,
    "S'MoRE": SMORE,
    "Beyond the papers": BEYOND,
}
INTRODUCTION = """# Results

Every claim was declared before it was measured: what is compared, in which direction, and the smallest effect that
matters. With the 95 % interval of the effect in the claimed direction, one rule (`moe_analysis/evidence/verdict.py`)
gives the verdict: **reproduced** (all of it above zero), **contradicted** (all of it below), **not reproduced** (an
effect that matters is excluded), **undecided** (the note says what would decide it), **not testable here** (a
precondition fails). Exact statements hold or fail. A claim counts as a paper's only where that paper makes it: what an
independent reproduction of a paper measured counts apart, and so do our own hypotheses, which are *supported* or *not
supported*, and exact statements in our own reading; the source of each row says whose it is. An interval is Student's t,
a bootstrap over tasks and seeds, or that of a median (order statistics), as its row says; a dash stands for what a row has
not. Effects and intervals are in
the claimed direction. This page is written by `tools/results.py`; the numbers are in `figures/*.json`.
"""
# what the papers are known for: backbone -> record -> names of claims
HEADLINES: dict[str, dict[str, tuple[str, ...]]] = {
    "compact": {
        "trex_fig2": ("trex_fig2_smoother_tortuosity_mix-and-match",),
        "trex_fig3": ("trex_headline_retention_LoRA", "trex_headline_acquisition_LoRA"),
        "gr_fig2": ("gr_fig2_mean_loss",),
        "gr_fig3": ("gr_fig3_gRSGD_RSGD",),
        "smore_fig4": ("smore_fig4_switch_retention_LoRA", "smore_fig4_switch_acquisition_LoRA"),
    },
    "SmolLM2-135M": {
        "trex_fig3_pretrained": ("trex_pretrained_headline_in_distribution_LoRA",),
        "gr_fig3_pretrained": ("gr_pretrained_gRSGD_RSGD",),
        "smore_fig4_pretrained": (
            "smore_fig4_switch_pretrained_in_distribution_LoRA",
            "smore_fig4_switch_pretrained_in_distribution_MixLoRA",
        ),
        "smore_table2": ("smore_table2_4-4_in_distribution_LoRA",),
        "smore_table2_alone": ("smore_table2_alone_4-4_in_distribution_LoRA",),
    },
}
COLUMNS = ("claim", "source", "compared", "effect", "interval", "kind", "seeds", "steps", "preset", "verdict")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"
NOTHING = "–"


def page() -> str:
    parts = [INTRODUCTION]
    for heading, items in PAPERS.items():
        shown = [(item, record) for item in items if (record := read(item))]
        parts.append(f"## {heading}\n\n{counted([claim for _, record in shown for claim in record['claims']])}\n")
        parts += [section(item, record) for item, record in shown]
    return "\n".join(parts)


def headlines() -> str:
    """A table of the claims that the papers are known for, with how large the effect is."""
    rows = ["| claim | source | backbone | measured | verdict |", "|---|---|---|---|---|"]
    for backbone, records in HEADLINES.items():
        for item, names in records.items():
            record = json.loads((ROOT / "figures" / f"{item}.json").read_text(encoding="utf-8"))
            claims = {one["name"]: one for claim in record["claims"] for one in leaves(claim)}
            for one in (claims[name] for name in names):
                source = one["source"].removesuffix(", on a pretrained model")
                rows.append(f"| {one['claim']} | {source} | {backbone} | {measured(one)} | **{one['verdict']}** |")
    return "\n".join(rows) + "\n"


def readme() -> str:
    """README.md with the table of today's records."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + headlines() + END + rest.partition(END)[2]


def counted(claims: Sequence[dict[str, Any]]) -> str:
    """One line per group of those who claim something: how many claims have which verdict."""
    found = {key: Counter(claim["verdict"] for claim in claims if who(claim) == key) for key in WHOSE}
    lines = [
        f"- {WHOSE[key]}: {', '.join(f'{count} {word}' for word, count in words.most_common())}"
        for key, words in found.items()
        if words
    ]
    return "\n".join(lines) or "nothing measured"


def who(claim: dict[str, Any]) -> str:
    """A key of `WHOSE`."""
    return whose(claim.get("kind"), claim["source"], claim["claim"])


def read(item: Item) -> dict[str, Any] | None:
    path = ROOT / "figures" / f"{item.id}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def section(item: Item, record: dict[str, Any]) -> str:
    origin = record.get("caption", {}).get("origin", "")
    rows = [row for claim in record["claims"] for row in rows_of(claim, made_with(record))]
    table = "\n".join([HEAD, *rows]) if rows else "No claim: a drawing."
    notebook = f"`{item.notebook}`" if item.notebook else ""
    return f"### {item.source}: {item.says}\n\n{notebook} — {origin}.\n\n{table}\n"


def made_with(record: dict[str, Any]) -> tuple[str, str, str]:
    """Seeds, steps and preset of a record; a dash where it has none, as an exact one."""
    origin = record.get("caption", {}).get("origin", "")
    told = re.findall(r"((?:\d+ to )?\d+) seeds?\b", origin)  # of tuning runs first, where there are any
    seeds = str(len(record["seeds"])) if record["seeds"] else (told or [NOTHING])[-1]
    steps = "; ".join(re.findall(r"(\d+)(?: training)? steps", origin)) or NOTHING
    # what a stored table holds, no preset decides
    return seeds, steps, "stored" if FROM_STORED in origin else record["preset"].get("preset", NOTHING)


def rows_of(claim: dict[str, Any], made: tuple[str, str, str], depth: int = 0) -> list[str]:
    """A claim's row, followed by those of its parts; made: as `made_with` gives it."""
    effect, low, high = (claim.get(name) for name in ("effect", "low", "high"))
    exact, parts = claim.get("kind") == "exact", claim.get("parts", ())
    seeds, steps, preset = made
    over = claim["spread"].rpartition(" over ")[2] if low is not None else ""
    texts = (
        f"{'↳ ' * depth}{claim['claim']}",
        claim["source"],
        f"expected {claim['paper']}" if exact and claim["paper"] else claim["paper"] or "its parts",
        claim["measured"] if exact or effect is None else f"{effect:+.3g}",
        f"{100 * claim['confidence']:.3g} % [{low:+.3g}, {high:+.3g}]" if low is not None else "",
        kind_of(over) if over else "its parts" if parts else "exact" if exact else NOTHING,
        seeds_of(claim, seeds),
        steps,
        preset,
        f"**{claim['verdict']}**" + (f": {claim['note']}" if claim.get("note") else ""),
    )
    row = "| " + " | ".join(str(text).replace("|", "\\|").replace("\n", " ") for text in texts) + " |"
    return [row, *(line for part in parts for line in rows_of(part, made, depth + 1))]


def seeds_of(claim: dict[str, Any], whole: str) -> str:
    """Seeds of the interval, or of those of the parts; `whole`, of the figure, if there is no interval to have.

    >>> seeds_of({"verdict": "in part", "spread": "", "parts": [{"verdict": "undecided", "spread": "[0, 1] over 3 seeds"}]}, "9")
    '3'
    """
    if claim["verdict"] == NOT_TESTABLE:
        return NOTHING
    if parts := claim.get("parts"):
        found = dict.fromkeys(seeds_of(part, whole) for part in parts)
        return ", ".join(one for one in found if one != NOTHING) or NOTHING
    return next(iter(re.findall(r"(\d+) seeds?\b", claim["spread"].rpartition(" over ")[2])), whole)


def kind_of(over: str) -> str:
    """What an interval is over, and its kind, as `evidence.Effect` and `budgets.claims_time.RoundsEffect` choose it.

    >>> kind_of("5 seeds"), kind_of("11 tasks and 5 seeds")
    ('t, over 5 seeds', 'bootstrap, over 11 tasks and 5 seeds')
    """
    method = "bootstrap" if " tasks and " in over else "median" if over.endswith(" rounds") else "t"
    return f"{method}, over {over}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for path, text in ((PAGE, page()), (README, readme())):
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.relative_to(ROOT)} is not what figures/*.json say; run python tools/results.py")


if __name__ == "__main__":
    main()
