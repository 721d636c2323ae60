"""The README and the manual keep their word: every snippet runs as it stands and gives what it says, every command is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import takewhile
from pathlib import Path

import peft
import pytest
import torch
from typer.testing import CliRunner

import moe_analysis as ma
from moe_analysis.__main__ import app
from moe_analysis.comparison import meta_backbone
from moe_analysis.theory.budget import TOLERANCE
from moe_analysis.theory.method_table import adapter_cost, layer_shapes
from moe_analysis.training.sweep import running
from moe_analysis.training.sweep.grid import read_grid

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/pages/training.md", "docs/pages/loop.md")
TEXT = "\n".join((ROOT / page).read_text("utf-8") for page in PAGES)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
# the loop is run by tests/training/recorders/test_attach_example.py, on a model and texts "of yours"
FIRST, RUN, FIGURE, OPTIMIZER, BUDGETS, *_, OWN = BLOCKS
PROGRAMS = ("python", "python3", "pip", "pytest", "torchrun", "moe-analysis", "make")
SMALL = 'steps=2, datasets=["add_small"], batch_size=4, rows_per_dataset=40, eval_rows=2, embedder="tfidf"'


def run(snippet: str) -> dict:
    """The names that a snippet leaves, pasted into an empty session."""
    names: dict = {}
    exec(compile(snippet, "README.md", "exec"), names)
    return names


def said(snippet: str) -> list[str]:
    """What a snippet's comments say that its lines print."""
    return re.findall(r"^print\(.*\)\s+# (.*)$", snippet, flags=re.MULTILINE)


def after(line: str, snippet: str) -> str:
    """The comment behind a line."""
    return re.search(rf"^{re.escape(line)}.*?# (.*)$", snippet, flags=re.MULTILINE)[1]


def test_the_first_example_trains_on_both_data_sets_and_prints_the_loss_of_their_real_tokens(capsys) -> None:
    names = run(FIRST)
    assert capsys.readouterr().out.splitlines() == said(FIRST) != []
    assert names["frame"]["dataset"].value_counts().gt(50).to_dict() == {"add_small": True, "review_mood": True}
    for name in ("emb", "scores"):
        assert str(tuple(names[name].shape)) in after(f"{name} =", FIRST)
    ids, real = names["batch"]["input_ids"][:, 1:], names["batch"]["attention_mask"][:, 1:].bool()
    assert not real.all(), "without padding the example shows nothing of it"
    expected = torch.nn.functional.cross_entropy(names["output"].logits[:, :-1][real], ids[real])
    torch.testing.assert_close(names["output"].loss, expected)
    assert any(parameter.grad is not None for parameter in names["model"].parameters())


def test_the_run_of_the_second_example_has_what_its_comments_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert RUN.count("steps=300") == 1
    trained = run(RUN.replace("steps=300", SMALL))["run"]
    assert trained.finished and trained.path.parent == Path("runs")
    columns = after("run.history", RUN).removeprefix("DataFrame: ").split(", ")
    assert list(trained.history.columns) == columns
    listed = re.findall(r"\w+_\w+", after("run.records", RUN))
    assert {"router_weight", "router_grad", "gate_entropy"} == set(listed) <= set(trained.records)
    assert trained.records["router_grad"].dims == ("step", "module", "expert", "feature")
    assert {"dataset", "accuracy", "loss"} <= set(trained.evaluation.columns)
    assert isinstance(trained.model(), peft.PeftModel)


def test_the_figure_of_the_example_is_an_object_with_claims_and_tables(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_RUNS", str(tmp_path))
    # notebook 02 trains them in a process of their own
    monkeypatch.setattr(running, "shared_pool", lambda _: ThreadPoolExecutor(1))
    paths = run(FIGURE)["paths"]
    assert paths.item == "trex_fig2" and {"effect", "low", "high", "verdict"} <= set(paths.claims)


def test_the_optimizer_example_runs_as_it_stands() -> None:
    assert {group["name"] for group in run(OPTIMIZER)["optimizer"].param_groups} == {"experts", "router"}


def test_the_grid_of_the_readme_makes_twelve_runs(tmp_path: Path) -> None:
    (grid := tmp_path / "grid.yaml").write_text(re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)[0])
    configs = read_grid(grid).configs
    assert len({config.run_name for config in configs}) == 2 * 2 * 3
    assert {(config.lr, config.adapter.r) for config in configs} == {(lr, r) for lr in (1e-3, 5e-3) for r in (2, 4)}


def test_the_systems_of_the_example_of_equal_budgets_are_nine_of_one_size() -> None:
    names = run(BUDGETS)
    model = meta_backbone("compact")
    sizes = {
        label: adapter_cost(config, layer_shapes(model, config)).parameters
        for label, config in {**names["nine"], "own": names["config"]}.items()
    }
    assert len(names["nine"]) == 9 and {"LoRA", "LoRA-MoE", "S'MoRE", "T-REX"} <= set(names["nine"])
    assert f"{round(100 * TOLERANCE)} %" in after("nine =", BUDGETS)
    assert abs(sizes.pop("own") / 100_000 - 1) <= TOLERANCE
    assert all(abs(size / 156_160 - 1) <= TOLERANCE for size in sizes.values()), sizes


def test_the_loop_of_your_own_learns_from_real_tokens_only() -> None:
    assert "ma.attach" in OWN and 'masked_fill(batch["attention_mask"] == 0, -100)' in OWN


def test_the_loop_of_the_notebook_draws_from_both_of_its_data_sets() -> None:
    notebook = json.loads((ROOT / "notebooks" / "10_bring_your_own.ipynb").read_text("utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    cell = next(cell for cell in cells if "\ntexts = " in cell)
    lines = [line for line in cell.splitlines() if line.startswith(("frame = ", "texts = "))]
    names = {"ma": ma}
    exec("\n".join(lines), names)
    origin = ma.load_suite("embedded", split="train").set_index("prompt")["dataset"].to_dict()
    assert len(names["texts"]) == 160
    assert {origin[text] for text in names["texts"]} == {"add_small", "review_mood"}


def commands() -> list[list[str]]:
    """The words of every command that the README shows, without what stands for the user's own and settings before."""
    shown = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL) for line in block.splitlines()]
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL).replace("\\|", "|")  # a pipe in a table is escaped
    shown += re.findall(r"`([^`\n]+)`", prose)
    found = []
    for text in shown:
        words = [word for word in re.split(r"[\s\[\]]+", text.partition("  #")[0]) if word]
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words and words[0].rpartition("/")[2] in PROGRAMS:
            found.append(words)
    return found


COMMANDS = commands()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_runs_in_the_clone_without_an_activated_environment(words: list[str]) -> None:
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert words[1] in targets
        return
    if words[0] == "pip":  # into an environment of the user's own, where the program is then called by its name
        assert words[1] == "install" and "path/to/clone" in words[2]
        return
    folder, _, program = words[0].rpartition("/")
    scripts = {entry.name for entry in metadata.entry_points(group="console_scripts")} | {"moe-analysis"}
    assert words[0] == "moe-analysis" or (folder == ".venv/bin" and program in scripts | {"python"})
    if words[1:] and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file()
        return
    rest = words[words.index("moe_analysis") + 1 :] if "moe_analysis" in words else words[1:]
    named = takewhile(re.compile(r"[a-z]+").fullmatch, rest)
    shown = CliRunner().invoke(app, [*named, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    options = {word for word in rest if word.startswith("--")}
    assert not {option for option in options if option not in shown.output}
    assert not [word for word in rest if "|" in word and not all(one in shown.output for one in word.split("|"))]


def test_the_commands_are_found() -> None:
    assert len(COMMANDS) >= 15
    assert {words[0] for words in COMMANDS} >= {"make", ".venv/bin/python", ".venv/bin/torchrun"}


def test_a_command_starts_outside_the_environment() -> None:
    words = next(words for words in COMMANDS if words[1:4] == ["-m", "moe_analysis", "figures"])
    bare = {name: value for name, value in os.environ.items() if name not in ("PATH", "VIRTUAL_ENV")}
    line = shlex.join([*words[:4], "--list"]).replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, env=bare | {"PATH": os.defpath}, capture_output=True, text=True)
    assert done.returncode == 0 and "trex_fig2" in done.stdout, done.stderr


def test_every_file_that_is_named_exists() -> None:
    paths = re.findall(r"`((?:tests|data|figures|moe_analysis|notebooks)/[\w./]+?)`", TEXT)
    paths += re.findall(r"\]\(([\w./]+\.png)\)", TEXT)
    assert paths and all((ROOT / path).exists() for path in paths)


def test_every_notebook_of_the_table_exists() -> None:
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(re.findall(r"`(\d\d_\w+)`", TEXT))
