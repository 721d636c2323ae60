"""Our reading of S'MoRE's Table 5, of which we know only the subject: more layers help at equal budget."""

from __future__ import annotations

from ...evidence import Claim, judged
from ..systems.endpoints import ENDPOINTS, MEANING
from .claims import slug
from .gaps import at_equal_budgets, subtracted
from .measure import MoreLayers

POINT = 0.01  # a visible difference in a table; for the loss a hundredth of a nat
# measure -> source, words, unit
MEASURES = {
    "accuracy": ("our reading of S'MoRE Table 5", "more accurate than", "accuracy"),
    "loss": ("beyond S'MoRE Table 5", "lower in loss than", "loss, nats per answer token"),
}


def claims(found: MoreLayers) -> list[Claim]:
    """One claim per endpoint, measure and number of layers; claims with the same endpoint and measure are a family."""
    known = found.points.drop_duplicates("method").set_index("method")["layers"].sort_values()
    (fewest, least), *more = known.items()
    told = []
    for part in found.parts:
        for measure, (source, words, unit) in MEASURES.items():
            prefix = "smore_table5" if measure == "accuracy" else "own_smore_layers"
            family = f"{prefix}_{slug(ENDPOINTS[part])}"
            declared = {
                method: Claim(
                    f"{family}_L{layers}",
                    source,
                    f"{ENDPOINTS[part]}: {layers} layers of S'MoRE are {words} {least} at equal budget",
                    kind="own",
                    compares=" - ".join(subtracted(measure, f"{layers} layers", f"{least} layer")),
                    endpoint=f"{unit}, mean over equal budgets, {MEANING[part]}",
                    smallest=POINT,
                    family=family,
                )
                for method, layers in more
            }
            effects = {
                claim.name: at_equal_budgets(found, part, *subtracted(measure, str(method), str(fewest)), measure)
                for method, claim in declared.items()
            }
            told += judged(list(declared.values()), effects)
    return told
