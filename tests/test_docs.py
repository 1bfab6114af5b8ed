"""What the documents show works: Python runs or at least compiles, configurations fit, commands and options exist.

A Python block runs, in the order of its page and in one namespace, in a folder with a recording or a CREMI file, and models (of random
weights), unless the line before it says `<!-- not run: reason -->`.
"""

import re
import shlex
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import click
import numpy as np
import pytest
import typer
from typer.main import get_command

from blockwise.cli import app
from blockwise.config import RunConfig, validated
from tests.synful.named import write_cremi_sample, write_networks
from tests.test_configs import dff, make_model

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "deploy/README.md")] + sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Fence:
    """A block of code in a page."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def fences(language: str) -> list[Fence]:
    found = [(page, page.read_text(), m) for page in PAGES for m in FENCE.finditer(page.read_text()) if m["language"] == language]
    return [Fence(page, text.count("\n", 0, m.start("text")) + 1, language, m["text"], m["reason"]) for page, text, m in found]


def commands() -> list[tuple[str, str]]:
    lines = [(f.place, line) for f in (*fences("console"), *fences("bash")) for line in f.text.splitlines()]
    return [(place, line.removeprefix("$ ")) for place, line in lines if line.removeprefix("$ ").startswith("blockwise ")]


def pages_with_python() -> list[Path]:
    return sorted({f.page for f in fences("python")})


def prepare(text: str) -> None:
    """Write what a page's Python reads into the working directory."""
    if "recording.npy" in text:
        np.save("recording.npy", dff())
        make_model("Global_EXC_30Hz_smoothing50ms_causalkernel")
    if "sample_A.hdf" in text:
        write_cremi_sample(Path("sample_A.hdf"))
        write_networks(Path())


@pytest.mark.parametrize("page", pages_with_python(), ids=lambda p: str(p.relative_to(ROOT)))
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    prepare(page.read_text())
    namespace: dict[str, object] = {"__name__": page.stem}
    for fence in fences("python"):
        if fence.page == page:
            code = compile("\n" * (fence.line - 1) + fence.text, str(page), "exec")
            if fence.reason is None:
                exec(code, namespace)


@pytest.mark.parametrize("fence", [f for f in fences("toml") if "task =" in f.text], ids=lambda f: f.place)
def test_configuration_fits(fence: Fence):
    import tomllib

    from blockwise.run import task_class

    config = validated(RunConfig, tomllib.loads(fence.text))
    config.options_as(task_class(config).Options)


@pytest.mark.parametrize("fence", [f for f in fences("toml") if "synful" in f.page.stem and "task =" not in f.text], ids=lambda f: f.place)
def test_part_of_a_configuration_fits(fence: Fence):
    """Filters look at segments, so a part without a mapping gets one."""
    import tomllib

    from tasks.synful.options import SynfulOptions

    part = tomllib.loads(fence.text)
    options = part.pop("options", {})
    options["map"] = {"segmentation": "segmentation.zarr"} | options.get("map", {})
    validated(RunConfig, {"task": "synful", "options": options, **part}).options_as(SynfulOptions)


@pytest.mark.parametrize("fence", fences("json"), ids=lambda f: f.place)
def test_parameters_fit(fence: Fence):
    """Of a training, or of a prediction with the original."""
    import json

    from tasks.synful.original import OriginalConfig
    from tasks.synful.training.parameters import TrainingParameters

    values = json.loads(fence.text)
    validated(OriginalConfig if "setup" in values else TrainingParameters, values)


def command_of(words: list[str]) -> click.Command:
    """The command that `words` name: one of ours, or a task's, with its subcommand."""
    entries = {e.name: e for e in entry_points(group="blockwise.commands")}
    if words[0] not in entries:
        return get_command(app).commands[words[0]]
    found = entries[words[0]].load()
    if isinstance(found, typer.Typer):
        return get_command(found).commands[words[1]]
    single = typer.Typer()
    single.command()(found)
    return get_command(single)


@pytest.mark.parametrize(("place", "line"), commands(), ids=lambda v: v if ":" in v else "")
def test_command_exists(place: str, line: str):
    words = shlex.split(line.split(">")[0])[1:]
    known = {name for p in command_of(words).params for name in p.opts}
    assert {w for w in words if w.startswith("--")} <= known, f"{place}: {line}"


def links() -> list[tuple[Path, str]]:
    return [(p, m) for p in PAGES for m in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", p.read_text())]


@pytest.mark.parametrize(("page", "target"), links(), ids=str)
def test_link_leads_somewhere(page: Path, target: str):
    assert (page.parent / target).exists()
