"""T-REX Lemma 4.1 drawn: the span of a layer's updates, what it costs, and how much of it trained runs use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..drawing.layout import arranged
from ..drawing.style import BASE, FULL_WIDTH, MARKERS, SYMBOLS, figure, method_color, use_style

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

SYSTEMS = {"lora": "LoRA", "moe_lora": "LoRA-MoE", "diagonal": "rank-1 diagonal", "mix_and_match": "mix-and-match"}
COUNT_LABELS = {
    "factors": "budget pays factors only",
    "factors+gates": "budget pays factors and gates",
    "factors+router": "budget pays factors and router",
}
ROUNDING = 1e-14  # energy of float32's rounding: recorded gates say nothing below
EXTRA_COLORS = {"rank-1 diagonal": "#D55E00", "T-REX, router alone": "#56B4E9"}
MEASURE_LABELS = {"rank_0.01": "numerical rank at 1e-2", "effective_rank": "effective rank"}


def system_color(system: str) -> str:
    """`method_color`, with colours of their own for two that are parts or relatives of a method."""
    return EXTRA_COLORS.get(system) or method_color(system)


def span_figure(ranks: pd.DataFrame, budgets: pd.DataFrame) -> Figure:
    """The paper figure from the frames of `rank_plot_frame` and `span_by_budget`.

    (a) span for every I, J with independent vectors; (b) span against I·J for all kinds of factors; then a panel a
    way of counting parameters: span at equal budgets, both axes logarithmic.

    >>> figure = span_figure(ranks, budgets)
    >>> len(figure.axes)
    4
    """
    counts = list(dict.fromkeys(budgets["count"]))
    with use_style():
        fig = figure(FULL_WIDTH, 5.4)
        above, below = np.asarray(fig.subfigures(2, 1, height_ratios=[1.12, 1]))
        left, right = np.ravel(above.subplots(1, 2))
        draw_heat(left, ranks[ranks["kind"] == "independent"])
        draw_kinds(right, ranks)
        panels = np.atleast_1d(below.subplots(1, len(counts), sharey=True))
        for letter, panel, count in zip("cdef", panels, counts):
            draw_budget(panel, budgets[budgets["count"] == count])
            panel.set_title(f"({letter}) {COUNT_LABELS[count]}")
        panels[0].set_ylabel("span (dimensions)")
        panels[-1].legend(loc="upper left")
    return fig


def draw_heat(panel: Any, ranks: pd.DataFrame) -> None:
    """The span of each size as a number on its colour."""
    table = ranks.pivot(index="J", columns="I", values="measured")
    panel.imshow(table, origin="lower", cmap="YlGnBu", vmin=0, vmax=1.15 * table.to_numpy().max(), aspect="auto")
    for row, values in enumerate(table.to_numpy()):
        for column, value in enumerate(values):
            panel.text(
                column,
                row,
                str(value),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if value > 0.6 * table.to_numpy().max() else "black",
            )
    panel.set_xticks(range(table.shape[1]), table.columns)
    panel.set_yticks(range(table.shape[0]), table.index)
    panel.set_xlabel("down vectors I")
    panel.set_ylabel("up vectors J")
    panel.set_title("(a) measured span, independent vectors")


def draw_kinds(panel: Any, ranks: pd.DataFrame) -> None:
    """Span against I·J: on the line for independent vectors, below it for degenerate ones."""
    agree = int((ranks["measured"] == ranks["predicted"]).sum())
    panel.plot([0, ranks["experts"].max()], [0, ranks["experts"].max()], color="0.6", linewidth=0.8, zorder=1)
    for index, (kind, table) in enumerate(ranks.groupby("kind", sort=False)):
        panel.scatter(
            table["experts"],
            table["measured"],
            s=16,
            marker=MARKERS[index % len(MARKERS)],
            alpha=0.65,
            color=BASE[index % len(BASE)],
            linewidths=0,
            label=kind,
            zorder=3 if index == 0 else 2,
        )
    panel.set_xlabel("experts I·J")
    panel.set_ylabel("measured span")
    panel.set_title(f"(b) equals rank(A)·rank(B) in {agree} of {len(ranks)}")
    panel.legend(loc="upper left", title="vectors", alignment="left", handletextpad=0.2)


def draw_budget(panel: Any, spans: pd.DataFrame) -> None:
    """A line a system, span against parameter budget."""
    for index, (system, table) in enumerate(spans.groupby("system", sort=False)):
        label = SYSTEMS[str(system)]
        panel.plot(
            table["budget"], table["span"], marker=MARKERS[index % len(MARKERS)], color=system_color(label), label=label
        )
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(budgets := sorted(spans["budget"].unique()), [f"{budget:,}" for budget in budgets])
    panel.minorticks_off()
    panel.set_xlabel("trainable parameters of a layer")
    panel.grid(axis="y")


def span_explorer(ranks: pd.DataFrame, budgets: pd.DataFrame) -> go.Figure:
    """The interactive twin: left the span against I·J for each kind of factors, right the span at equal budgets.

    Hover tells I, J, both ranks, predicted and measured span; budget, size and span.

    >>> [trace.name for trace in span_explorer(ranks, budgets).data][:2]
    ['independent vectors', 'dependent vectors']
    """
    from plotly.subplots import make_subplots

    counts = list(dict.fromkeys(budgets["count"]))
    fig = make_subplots(1, 1 + len(counts), subplot_titles=["Lemma 4.1", *(COUNT_LABELS[count] for count in counts)])
    columns = ["I", "J", "rank_a", "rank_b", "predicted", "measured"]
    for index, (kind, table) in enumerate(ranks.groupby("kind", sort=False)):
        fig.add_scatter(
            x=table["experts"].to_numpy(np.float32),
            y=table["measured"].to_numpy(np.float32),
            mode="markers",
            name=f"{kind} vectors",
            customdata=table[columns].to_numpy(np.float32),
            opacity=0.75,
            row=1,
            col=1,
            marker={"color": BASE[index % len(BASE)], "symbol": SYMBOLS[index % len(SYMBOLS)], "size": 8},
            hovertemplate=f"{kind}<br>I = %{{customdata[0]}}, J = %{{customdata[1]}}<br>rank(A) %{{customdata[2]}}, "
            "rank(B) %{customdata[3]}<br>predicted %{customdata[4]}, measured %{customdata[5]}<extra></extra>",
        )
    for column, count in enumerate(counts, start=2):
        for system, table in budgets[budgets["count"] == count].groupby("system", sort=False):
            label = SYSTEMS[str(system)]
            fig.add_scatter(
                x=table["budget"].to_numpy(np.float32),
                y=table["span"].to_numpy(np.float32),
                name=label,
                mode="lines+markers",
                legendgroup=label,
                showlegend=column == 2,
                text=table["size"],
                row=1,
                col=column,
                line={"color": system_color(label)},
                hovertemplate=f"{label} of size %{{text}}<br>%{{x:,}} parameters<br>span %{{y}}<extra></extra>",
            )
        fig.update_xaxes(type="log", title_text="trainable parameters", row=1, col=column)
        fig.update_yaxes(type="log", row=1, col=column)
    fig.update_xaxes(title_text="experts I·J", row=1, col=1)
    fig.update_yaxes(title_text="measured span", row=1, col=1)
    fig.update_layout(template="plotly_white", height=560, title={"text": "Directions that updates can span"})
    return arranged(fig)


def used_figure(used: pd.DataFrame, bands: pd.DataFrame) -> Figure:
    """The paper figure of trained runs, from the frames of `used_by_runs` and `energy_bands`.

    (a) energy of the tokens' routings beyond their first k directions, mean over layers, shaded between seeds, with
    each method's number of experts marked; (b), (c) numerical and effective rank in every layer, a dot a seed.

    >>> from moe_analysis.analysis.used_subspace import energy_bands
    >>> figure = used_figure(used, energy_bands(energy))
    >>> figure.axes[2].get_title(loc="left")
    "(c) effective rank of the tokens' routings"
    """
    with use_style():
        fig = figure(FULL_WIDTH, 5.0)
        above, below = np.asarray(fig.subfigures(2, 1, height_ratios=[1, 1]))
        draw_energy(panel := above.subplots(), bands, used)
        panel.set_title("(a) energy of the routings that their first k directions leave out")
        for letter, lower, measure in zip("bc", np.ravel(below.subplots(1, 2)), MEASURE_LABELS):
            draw_layers(lower, used, measure)
            lower.set_title(f"({letter}) {MEASURE_LABELS[measure]} of the tokens' routings")
    return fig


def draw_energy(panel: Any, bands: pd.DataFrame, used: pd.DataFrame) -> None:
    shown = bands[bands["mean"] > ROUNDING]
    for index, (method, band) in enumerate(shown.groupby("method", sort=False)):
        color = system_color(str(method))
        panel.fill_between(band["direction"], band["low"], band["high"], color=color, alpha=0.2, linewidth=0)
        panel.plot(
            band["direction"],
            band["mean"],
            color=color,
            label=method,
            marker=MARKERS[index % len(MARKERS)],
            markersize=3.2,
        )
    for experts in used["experts"].unique():
        panel.axvline(experts, color="0.55", linewidth=0.8, linestyle=(0, (3, 2)))
        panel.annotate(
            f"{experts} experts",
            (experts, 0.5),
            (-3, 0),
            fontsize=6.5,
            ha="right",
            va="center",
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color="0.3",
        )
    panel.set_yscale("log")
    panel.set_ylim(max(ROUNDING, shown["mean"].min() / 30), 3)
    panel.set_xlabel("directions k")
    panel.set_ylabel("share of energy beyond k")
    panel.grid(axis="y")
    panel.legend(loc="lower left")


def draw_layers(panel: Any, used: pd.DataFrame, measure: str) -> None:
    """A dot a layer and seed, a dash for the mean of the seeds; layers in the order of the frame."""
    modules = list(dict.fromkeys(used["module"]))
    methods = list(dict.fromkeys(used["method"]))
    for index, method in enumerate(methods):
        table = used[used["method"] == method]
        places = table["module"].map(modules.index) + (index - (len(methods) - 1) / 2) * 0.2
        values, color = table[measure].astype(float), system_color(method)
        panel.scatter(places, values, s=11, color=color, alpha=0.6, linewidths=0, label=method)
        means = values.groupby(places).mean()
        panel.scatter(means.index, means, marker="_", s=50, color=color, linewidths=1.4)
    panel.set_xticks(range(len(modules)), layer_labels(used, modules))
    panel.set_xlim(-0.6, len(modules) - 0.4)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("directions")
    panel.grid(axis="y")


def layer_labels(used: pd.DataFrame, modules: list[str]) -> list[str]:
    """("layers.0.self_attn.q_proj") -> "0 q": the layer, and what is left of its target without "_proj"."""
    names = used.drop_duplicates("module").set_index("module")
    return [f"{row.layer} {str(row.target).removesuffix('_proj')}" for row in names.loc[modules].itertuples()]


def used_explorer(used: pd.DataFrame, bands: pd.DataFrame) -> go.Figure:
    """The interactive twin: energy curves on the left, the ranks of every layer on the right, a button a measure.

    >>> from moe_analysis.analysis.used_subspace import energy_bands
    >>> figure = used_explorer(used, energy_bands(energy))
    >>> sorted({trace.type for trace in figure.data})
    ['scatter']
    """
    from plotly.subplots import make_subplots

    titles = ["share of energy beyond the first k directions", "directions used by layer"]
    fig = make_subplots(1, 2, subplot_titles=titles)
    methods = list(dict.fromkeys(used["method"]))
    for method in methods:
        band = bands[(bands["method"] == method) & (bands["mean"] > ROUNDING)]
        fig.add_scatter(
            x=band["direction"].to_numpy(np.float32),
            y=band["mean"].to_numpy(np.float32),
            name=method,
            legendgroup=method,
            line={"color": system_color(method)},
            row=1,
            col=1,
            mode="lines+markers",
            customdata=band[["low", "high"]].to_numpy(np.float32),
            hovertemplate=f"{method}<br>beyond %{{x}} directions: %{{y:.2e}}<br>seeds %{{customdata[0]:.2e}} to "
            "%{customdata[1]:.2e}<extra></extra>",
        )
    tables = [used[used["method"] == method] for method in methods]
    for method, table in zip(methods, tables):
        fig.add_scatter(
            x=table["module"],
            y=table["rank_0.01"].astype(float).to_numpy(np.float32),
            name=method,
            mode="markers",
            legendgroup=method,
            showlegend=False,
            marker={"color": system_color(method), "size": 8},
            row=1,
            col=2,
            customdata=table[["seed", "experts", "top_share"]].to_numpy(np.float32),
            hovertemplate=f"{method}, seed %{{customdata[0]}}<br>%{{x}}<br>%{{y:.3g}} of %{{customdata[1]}} directions"
            "<br>energy of the first %{customdata[2]:.3f}<extra></extra>",
        )
    places = list(range(len(methods), 2 * len(methods)))
    buttons = [
        {
            "label": label,
            "method": "restyle",
            "args": [{"y": [table[measure].astype(float).to_numpy(np.float32) for table in tables]}, places],
        }
        for measure, label in MEASURE_LABELS.items()
    ]
    fig.update_yaxes(type="log", title_text="share of energy", exponentformat="power", row=1, col=1)
    fig.update_yaxes(title_text="directions", rangemode="tozero", row=1, col=2)
    fig.update_xaxes(title_text="directions k", row=1, col=1)
    fig.update_layout(
        template="plotly_white",
        height=640,
        title={"text": "Directions that trained layers use"},
        updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons}],
    )
    return arranged(fig)
