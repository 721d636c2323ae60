"""The exponent of gate rescaling drawn against the gates' entropy, and the learning-rate confound."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..analysis.exponent import EQUAL, MATCHED, TUNED, method_pair
from ..analysis.intervals import mean_interval
from ..drawing.layout import arranged
from ..drawing.style import FULL_WIDTH, MARKERS, SYMBOLS, figure, use_style

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00")  # plain, rescaled
LINES, DIVERGING = "viridis", "RdBu_r"
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0)


def exponent_figure(table: pd.DataFrame) -> Figure:
    """The paper figure from the frame of `exponent_table`.

    (a) validation error against p, a line a temperature with its measured entropy, shaded 95 % intervals of the means.
    (b) the paired difference to p = 1 for every p and entropy; a dot marks where its interval does not cross zero.

    >>> from moe_analysis.analysis.exponent import exponent_table
    >>> figure = exponent_figure(exponent_table(powers))
    >>> figure.axes[0].get_xlabel()
    'exponent p of the backward factor $g^p$'
    """
    with use_style():
        fig = figure(FULL_WIDTH, 3.0)
        first, second = fig.subplots(1, 2, width_ratios=[1, 1.15])
        draw_powers(first, table)
        draw_differences(second, table)
    return fig


def draw_powers(panel: Any, table: pd.DataFrame) -> None:
    for index, (color, (entropy, line)) in enumerate(zip(line_colors(table), table.groupby("entropy"))):
        panel.fill_between(line["power"], line["low"], line["high"], color=color, alpha=0.1, linewidth=0)
        panel.plot(
            line["power"],
            line["mean"],
            color=color,
            marker=MARKERS[index % len(MARKERS)],
            label=f"{entropy:.2f}  (T = {line['temperature'].iloc[0]:g})",
        )
    panel.set_xticks(sorted(table["power"].unique()))
    panel.set_xlabel("exponent p of the backward factor $g^p$")
    panel.set_ylabel("validation error (untrained: 1)")
    panel.set_yscale("log")  # p = 0 can fail outright
    low, high = panel.get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_title("(a) error by exponent")
    panel.grid(axis="y")
    panel.legend(title="gate entropy", loc="best")


def line_colors(table: pd.DataFrame) -> list[Any]:
    """One colour an entropy, dark for uneven gates; the end of the map is too pale for a line."""
    from matplotlib import colormaps

    return [tuple(color) for color in colormaps[LINES](np.linspace(0, 0.85, table["entropy"].nunique()))]


def draw_differences(panel: Any, table: pd.DataFrame) -> None:
    from matplotlib.colors import TwoSlopeNorm

    rescaled = table[table["power"] != 1.0]
    wide = rescaled.pivot(index="entropy", columns="power", values="difference")
    decided = rescaled.pivot(index="entropy", columns="power", values="decided").reindex_like(wide)
    limit = color_limit(wide)
    image = panel.imshow(
        wide.to_numpy(), origin="lower", aspect="auto", cmap=DIVERGING, norm=TwoSlopeNorm(0, -limit, limit)
    )
    for (row, column), value in np.ndenumerate(wide.to_numpy()):
        pale = not np.isfinite(value) or abs(value) < 0.6 * limit
        text = "diverged" if not np.isfinite(value) else f"{value:+.3f}" + (" •" if decided.iat[row, column] else "")
        panel.text(column, row, text, ha="center", va="center", fontsize=7, color="black" if pale else "white")
    panel.set_xticks(range(wide.shape[1]), [f"{power:g}" for power in wide.columns])
    panel.set_yticks(range(wide.shape[0]), [f"{entropy:.2f}" for entropy in wide.index])
    panel.set_xlabel("exponent p")
    panel.set_ylabel("measured gate entropy")
    panel.set_title("(b) difference to p = 1,  •: interval excludes 0")
    bar = panel.figure.colorbar(image, ax=panel, fraction=0.06, extend="both")
    bar.set_label("lower is better")


def color_limit(wide: pd.DataFrame) -> float:
    """The colours' range: the median over temperatures of the largest difference, so that one extreme temperature does
    not bleach the others; what lies beyond has the colour of the end."""
    largest = np.sort(wide.abs().max(axis=1).dropna().to_numpy())
    return float(largest[max(0, len(largest) // 2)]) if len(largest) and largest[len(largest) // 2] > 0 else 1e-12


def exponent_explorer(table: pd.DataFrame) -> go.Figure:
    """The interactive twin: hover tells p, entropy, temperature, error and the difference to p = 1.

    >>> from moe_analysis.analysis.exponent import exponent_table
    >>> [trace.type for trace in exponent_explorer(exponent_table(powers)).data]
    ['scatter', 'scatter', 'scatter', 'heatmap']
    """
    from matplotlib.colors import to_hex
    from plotly.subplots import make_subplots

    fig = make_subplots(1, 2, subplot_titles=["error by exponent", "difference to p = 1"])
    told = ["temperature", "difference", "difference_low", "difference_high", "seeds"]
    for index, (color, (entropy, line)) in enumerate(zip(line_colors(table), table.groupby("entropy"))):
        mean, low, high = (line[name].to_numpy(np.float32) for name in ("mean", "low", "high"))
        fig.add_scatter(
            x=line["power"].to_numpy(np.float32),
            y=mean,
            name=f"entropy {entropy:.2f}",
            row=1,
            col=1,
            line={"color": to_hex(color)},
            marker={"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 8},
            error_y={"type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low},
            customdata=line[told].to_numpy(np.float32),
            hovertemplate=f"entropy {entropy:.2f}, T = %{{customdata[0]}}<br>p = %{{x}}<br>error %{{y:.4f}}"
            "<br>to p = 1: %{customdata[1]:+.4f} [%{customdata[2]:+.4f}, %{customdata[3]:+.4f}]"
            "<br>%{customdata[4]} seeds<extra></extra>",
        )
    rescaled = table[table["power"] != 1.0]
    wide = rescaled.pivot(index="entropy", columns="power", values="difference")
    limit = color_limit(wide)
    fig.add_heatmap(
        z=wide.to_numpy(np.float32),
        x=[f"p = {power:g}" for power in wide.columns],
        y=[f"{entropy:.2f}" for entropy in wide.index],
        zmin=-limit,
        zmax=limit,
        colorscale="RdBu_r",
        row=1,
        col=2,
        hovertemplate="%{x}, entropy %{y}<br>difference %{z:+.4f}<extra></extra>",
    )
    fig.update_xaxes(title_text="exponent p", row=1, col=1)
    fig.update_yaxes(title_text="validation error (untrained: 1)", row=1, col=1)
    fig.update_yaxes(title_text="measured gate entropy", type="category", row=1, col=2)
    fig.update_layout(template="plotly_white", height=520, title={"text": "The exponent of gate rescaling"})
    return arranged(fig)


def confound_figure(frame: pd.DataFrame, comparisons: pd.DataFrame, loss: str = "validation error") -> Figure:
    """The paper figure of the confound; frame: columns method, seed, lr, loss, of any kind of run.

    (a) loss against the experts' learning rate, shaded 95 % intervals, with a mark where `confound_comparisons` reads
    each method. (b) its paired differences with their intervals: left of zero rescaling is better. Learning rates at
    which a seed diverged have a cross at the top in place of a mean. loss: what the columns measure.

    >>> figure = confound_figure(tried, compared)
    >>> figure.axes[0].get_xlabel()
    'learning rate of the experts  (×: a seed diverged)'
    """
    with use_style():
        fig = figure(FULL_WIDTH, 3.2)
        first, second = fig.subplots(1, 2, width_ratios=[1.1, 1])
        draw_rates(first, frame, loss)
        draw_marks(first, frame, comparisons)
        draw_gaps(second, comparisons, f"{' minus '.join(reversed(method_pair(frame)))}, {loss}")
        fig.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return fig


def loss_bands(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns method, lr, mean, low, high, diverged (share of seeds); NaN means where a seed diverged."""
    rows = []
    for (method, lr), part in frame.groupby(["method", "lr"], sort=True):
        lost = 1 - np.isfinite(part["loss"]).mean()
        mean, low, high = mean_interval(part["loss"].to_numpy()) if not lost else (np.nan,) * 3
        rows.append((method, lr, mean, low, high, lost))
    return pd.DataFrame(rows, columns=["method", "lr", "mean", "low", "high", "diverged"])


def draw_rates(panel: Any, frame: pd.DataFrame, loss: str) -> None:
    bands = loss_bands(frame)
    for index, (method, color) in enumerate(zip(method_pair(frame), COLORS)):
        band = bands[bands["method"] == method]
        panel.fill_between(band["lr"], band["low"], band["high"], color=color, alpha=0.15, linewidth=0)
        panel.plot(band["lr"], band["mean"], color=color, label=method)
        for lr in band.loc[band["diverged"] > 0, "lr"]:
            panel.plot(
                lr,
                0.985 - 0.05 * index,
                "x",
                color=color,
                markersize=5,
                clip_on=False,
                transform=panel.get_xaxis_transform(),
            )
    panel.set_xscale("log")
    panel.set_xlabel("learning rate of the experts  (×: a seed diverged)")
    panel.set_ylabel(loss)
    panel.set_title("(a) loss by learning rate")
    panel.grid(axis="y")


def draw_marks(panel: Any, frame: pd.DataFrame, comparisons: pd.DataFrame) -> None:
    """A marker a kind of comparison on each curve where it is read; RSGD's matched learning rates lie between runs."""
    bands = loss_bands(frame).dropna()
    seen = set()
    for row in comparisons.to_dict("records"):
        kind = kind_of(row["comparison"])
        for method, color, lr in zip(method_pair(frame), COLORS, (row["plain_lr"], row["rescaled_lr"])):
            band = bands[bands["method"] == method]
            height = np.interp(np.log(lr), np.log(band["lr"]), band["mean"], right=np.nan)
            panel.plot(
                lr,
                height,
                linestyle="",
                marker=kind_marker(kind)[0],
                color=color,
                markersize=7,
                markeredgecolor="black",
                markeredgewidth=0.7,
                zorder=4,
            )
        if kind not in seen:
            panel.plot(
                [],
                [],
                linestyle="",
                marker=kind_marker(kind)[0],
                color="0.8",
                markeredgecolor="black",
                markersize=6,
                label=kind,
            )
        seen.add(kind)


def kind_of(comparison: str) -> str:
    """ "equal lr", "matched step" or "both tuned": what a comparison's name begins with."""
    return next((kind for kind in (MATCHED, TUNED) if comparison.startswith(kind)), EQUAL)


def kind_marker(kind: str) -> tuple[str, str]:
    """matplotlib's marker and plotly's symbol of a kind of comparison."""
    index = {EQUAL: 0, MATCHED: 2, TUNED: 1}[kind]
    return MARKERS[index], SYMBOLS[index]


def draw_gaps(panel: Any, comparisons: pd.DataFrame, label: str) -> None:
    places = np.arange(len(comparisons))[::-1]
    panel.axvline(0, color="0.5", linewidth=0.8)
    for place, row in zip(places, comparisons.to_dict("records")):
        if np.isfinite(row["difference"]):
            panel.plot([row["low"], row["high"]], [place, place], color="0.35", linewidth=1.2)
            panel.plot(
                row["difference"],
                place,
                marker=kind_marker(kind_of(row["comparison"]))[0],
                color="0.8",
                markeredgecolor="black",
                markersize=6,
            )
        else:
            panel.text(
                0.5,
                place,
                f"undecided: {row['diverged']} of {row['seeds']} seeds diverged",
                ha="center",
                va="center",
                fontsize=7,
                transform=panel.get_yaxis_transform(),
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
    panel.set_yticks(places, [fill(name, 22) for name in comparisons["comparison"]])
    panel.set_ylim(-0.6, len(comparisons) - 0.4)
    panel.set_xlabel(label)
    panel.set_title("(b) paired differences, 95 %")
    panel.grid(axis="x")


def confound_explorer(frame: pd.DataFrame, comparisons: pd.DataFrame, loss: str = "validation error") -> go.Figure:
    """The interactive twin: means and every seed against the learning rate; differences with intervals beside.

    >>> figure = confound_explorer(tried, compared)
    >>> sorted({trace.type for trace in figure.data})
    ['scatter']
    """
    from plotly.subplots import make_subplots

    fig = make_subplots(1, 2, subplot_titles=["loss by learning rate", "paired differences, 95 %"])
    bands, (plain, rescaled) = loss_bands(frame), method_pair(frame)
    for method, color in zip((plain, rescaled), COLORS):
        band, runs = bands[bands["method"] == method], frame[(frame["method"] == method) & np.isfinite(frame["loss"])]
        fig.add_scatter(
            x=runs["lr"].to_numpy(np.float32),
            y=runs["loss"].to_numpy(np.float32),
            mode="markers",
            row=1,
            col=1,
            name=f"{method}, seeds",
            legendgroup=method,
            customdata=runs["seed"].to_numpy(),
            marker={"color": color, "opacity": 0.35, "size": 6},
            hovertemplate=f"{method}, seed %{{customdata}}<br>lr %{{x:.3g}}<br>loss %{{y:.4f}}<extra></extra>",
        )
        fig.add_scatter(
            x=band["lr"].to_numpy(np.float32),
            y=band["mean"].to_numpy(np.float32),
            name=method,
            row=1,
            col=1,
            legendgroup=method,
            line={"color": color},
            customdata=band[["low", "high"]].to_numpy(np.float32),
            hovertemplate=f"{method}<br>lr %{{x:.3g}}<br>mean %{{y:.4f}} "
            "[%{customdata[0]:.4f}, %{customdata[1]:.4f}]<extra></extra>",
        )
    shown = comparisons.iloc[::-1]
    names = [fill(name, 24).replace("\n", "<br>") for name in shown["comparison"]]
    middle, low, high = (shown[name].to_numpy(np.float32) for name in ("difference", "low", "high"))
    symbols = [kind_marker(kind_of(name))[1] for name in shown["comparison"]]
    fig.add_scatter(
        x=middle,
        y=names,
        mode="markers",
        row=1,
        col=2,
        showlegend=False,
        customdata=shown[["rescaled_lr", "plain_lr", "seeds", "diverged"]].to_numpy(np.float32),
        marker={"color": "#333333", "size": 10, "symbol": symbols},
        error_x={"type": "data", "symmetric": False, "array": high - middle, "arrayminus": middle - low},
        hovertemplate=f"%{{y}}<br>difference %{{x:+.4f}}<br>{rescaled} at lr %{{customdata[0]:.3g}}, {plain} at "
        "%{customdata[1]:.3g}<br>%{customdata[2]} seeds, %{customdata[3]} diverged<extra></extra>",
    )
    fig.add_vline(x=0, line={"color": "grey", "width": 1}, row=1, col=2)
    fig.update_xaxes(type="log", title_text="learning rate of the experts", row=1, col=1)
    fig.update_yaxes(title_text=loss, row=1, col=1)
    fig.update_xaxes(title_text=f"{rescaled} minus {plain}", row=1, col=2)
    fig.update_layout(template="plotly_white", height=520, title={"text": "Rescaling, or a larger learning rate?"})
    return arranged(fig)
