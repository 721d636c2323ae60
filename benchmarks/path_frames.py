"""How many frames a second a router's path can be played at in a browser, beside an empty scene that turns.

    python benchmarks/path_frames.py [--json] [--rounds 9] [--points 200,60,30]

Three methods with 8, 32 and 32 experts, as on T-REX's Fig. 2, of made-up routers. A frame is what a step of the widget
changes in the page: new ends of all lines by `Plotly.restyle`, and the picture, waited for by reading a pixel. `bytes`
are those of the arrays that the kernel sends for it. The empty scene has the same axes and one small point; a frame of it
is a turn of the camera. Browsers without a graphics card draw both in software. The scenes take turns; medians are reported.
Playwright and Chromium are needed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from moe_analysis.studies.router_paths import explore
from moe_analysis.studies.router_paths.paths import path_axes, router_paths
from tests.browser import EXECUTABLE, FLAGS
from tests.studies.fake_runs import MODULES, fake_run, walk

METHODS = {"LoRA-MoE": 8, "mix-and-match": 32, "T-REX": 32}
RECORDS, FEATURES = 300, 64
PLACES = 12  # of the slider that are shown in turn
SIZE = (1280, 900)
# milliseconds of each frame; what = the name of a scene, frame = which place of the slider
FRAME = """async ([what, frame]) => {
    const plot = document.getElementById(what), scene = plot._fullLayout.scene._scene, gl = scene.glplot.gl;
    const before = performance.now();
    if (window.frames_of[what]) {
        const { x, y, z } = window.frames_of[what][frame];
        await Plotly.restyle(plot, { x, y, z }, x.map((_, number) => number));
    } else {
        const eye = { x: 1.5 + 0.05 * frame, y: -1.5, z: 1 };
        await Plotly.relayout(plot, { "scene.camera.eye": eye });
    }
    if (!window.frames_of[what]) scene.glplot.redraw(); // which a restyle does itself
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    return performance.now() - before;
}"""


def scene_of(points: int) -> tuple[Any, list[dict[str, list[Any]]]]:
    """The widget's figure, and the arrays of each place of its slider."""
    rng = np.random.default_rng(0)
    runs = [fake_run(walk(rng, RECORDS, count, FEATURES, drift=0.5), method) for method, count in METHODS.items()]
    axes = path_axes(runs, MODULES[0])
    shown = explore.PathExplorer(runs, router_paths(runs, MODULES[0], axes, points), axes)
    frames = []
    for step in np.linspace(2, RECORDS, PLACES).round().astype(int):
        shown.controls["step"].value = int(step)
        frames.append({name: [np.array(trace[name]) for trace in shown.figure.data] for name in "xyz"})
    return shown.figure, frames


def empty_scene(figure: Any) -> Any:
    import plotly.graph_objects as go

    point = {name: [figure.layout.scene[f"{name}axis"].range[0]] for name in "xyz"}  # plotly draws no axes without one
    return go.Figure([go.Scatter3d(**point, mode="markers", marker={"size": 1})], figure.layout)


def page_of(scenes: dict[str, tuple[Any, list]]) -> str:
    """All scenes on one page, and their frames as numbers."""
    from plotly.utils import PlotlyJSONEncoder

    parts, frames = [], {}
    for number, (name, (figure, own)) in enumerate(scenes.items()):
        parts.append(figure.to_html(full_html=False, div_id=name, include_plotlyjs=not number, default_width="700px"))
        frames[name] = [
            {axis: [line.astype(float).tolist() for line in lines] for axis, lines in one.items()} for one in own
        ]
    written = json.dumps(frames, cls=PlotlyJSONEncoder)
    return f"<meta charset='utf-8'>{''.join(parts)}<script>window.frames_of = {written};</script>"


def measured(page: Any, names: list[str], rounds: int) -> dict[str, float]:
    """{scene: median milliseconds of a frame}; the first round warms up."""
    page.evaluate(
        "for (const name of Object.keys(window.frames_of)) if (!frames_of[name].length) delete frames_of[name]"
    )
    for name in names:
        page.wait_for_function("name => document.getElementById(name)?._fullLayout?.scene?._scene?.glplot", arg=name)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names:
            one = page.evaluate(FRAME, [name, turn % PLACES])
            if turn:
                taken[name].append(one)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--points", default="200,60,30", help="of a line, one scene each")
    options = parser.parse_args()
    scenes: dict[str, tuple[Any, list]] = {
        f"points{value}": scene_of(int(value)) for value in options.points.split(",")
    }
    sizes = {
        name: sum(line.nbytes for lines in own[-1].values() for line in lines) for name, (_, own) in scenes.items()
    }
    scenes["empty"] = empty_scene(next(iter(scenes.values()))[0]), []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        (path := Path(folder) / "page.html").write_text(page_of(scenes))
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=[*FLAGS])
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        page.set_default_timeout(180_000)
        page.goto(path.as_uri())
        found = measured(page, list(scenes), options.rounds)
        browser.close()
    rows = {
        name: {"ms": value, "frames": 1000 / value, "empty_share": found["empty"] / value, "bytes": sizes.get(name, 0)}
        for name, value in found.items()
    }
    for name, row in rows.items():
        print(
            f"{name:>10}: {row['ms']:6.1f} ms a frame, {row['frames']:5.1f} frames/s, "
            f"empty scene {row['empty_share']:.0%} of it, {row['bytes'] / 1000:.0f} kB of arrays"
        )
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
