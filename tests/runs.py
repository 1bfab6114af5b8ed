"""The command line called in this process, and small Cascade runs for it to work on."""

import io
import json
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from blockwise.cli import app, main

BLOCKS = {"shape": [4, 500]}


@dataclass(frozen=True)
class Called:
    """What one command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def blockwise(*args: object) -> Called:
    """Call the command with these arguments, as its console script does; nobody answers questions."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err), patch("sys.stdin", io.StringIO()):
        try:
            main(lambda: app([str(a) for a in args], prog_name="blockwise"))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return Called(code, out.getvalue(), err.getvalue())


def traces(neurons: int = 6, frames: int = 1500, seed: int = 0) -> np.ndarray:
    """dF/F with transients, (neurons, frames) float32, of noise levels from below 2 to above 3 % s^1/2 at 30 Hz."""
    random = np.random.default_rng(seed)
    spikes = random.random((neurons, frames)) < 0.01
    decay = np.exp(-np.arange(60) / 15)
    clean = np.array([np.convolve(row, decay)[:frames] for row in spikes])
    return (clean + random.normal(0, 1, clean.shape) * np.linspace(0.08, 0.2, neurons)[:, None]).astype(np.float32)


def configuration(folder: Path, values: Mapping[str, Any], name: str = "run") -> Path:
    """Write sections as a TOML file; the run folder and the output lie beside it."""
    from blockwise.config import RunConfig, validated
    from blockwise.folder import to_toml

    file = folder / f"{name}.toml"
    file.write_text(to_toml(validated(RunConfig, {"task": "cascade", "blocks": BLOCKS, **values})), encoding="utf-8")
    return file


def stamps(folder: Path) -> dict[Path, int]:
    """When every file below a folder was written last."""
    return {f: f.stat().st_mtime_ns for f in folder.rglob("*") if f.is_file()}


def address_of(workers: Any) -> dict[str, Any]:
    """`[cluster]` of a run on workers that are there already."""
    return {"kind": "address", "address": workers.client.scheduler.address, "workers": 2, "device": "cpu"}


def glob_run(folder: Path, workers: Any, names: str = "abc", **values: Any) -> Path:
    """A model, recordings below `rec`, and the configuration of a run over all of them; not run yet."""
    from tests.cascade.random_model import write_model

    write_model(folder / "model")
    (folder / "rec").mkdir()
    for name in names:
        np.save(folder / "rec" / f"{name}.npy", traces(seed=ord(name)))
    about = {"input": {"path": str(folder / "rec" / "*.npy"), "frame_rate": 30.0}, "model": {"path": str(folder / "model")}}
    return configuration(folder, {**about, "cluster": address_of(workers), **values})
