"""`blockwise train parameter.json`: trains, says how it goes, ends with the codes of `blockwise run`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

INTERRUPTED = 3


def train_command(config: Path, *, changes: Sequence[str], adopt: Sequence[str], json_: bool, quiet: bool) -> None:
    """Train as a file says, or go on with the run of a folder.

    Parameters
    ----------
    config : a parameter.json, or the folder of a run.  changes : key=value over the file, "validation.every=100".
    adopt : keys that may differ from those of the run that is there.

    Raises
    ------
    See `train`; ConfigError : a change that is no key=value.
    """
    from tasks.synful.training.loop import train
    from tasks.synful.training.parameters import load_parameters

    file = config / "parameter.json" if config.is_dir() else config
    parameters = load_parameters(file, changes)
    folder = config if config.is_dir() else Path(parameters.folder or config.with_suffix(".run"))
    done = train(parameters, folder, adopt=adopt, report=None if quiet else _shown)
    told = {"folder": str(done.folder), "checkpoint": str(done.checkpoint), "iteration": done.iteration, "skipped": done.skipped}
    if json_:
        typer.echo(json.dumps(told))
    elif done.interrupted:
        typer.echo(
            f"Stopped after {done.iteration} of {parameters.max_iteration} iterations; go on with: blockwise train {folder}", err=True
        )
    else:
        typer.echo(f"{done.iteration} iterations done: {done.checkpoint}", err=True)
    raise typer.Exit(INTERRUPTED if done.interrupted else 0)


def _shown(kind: str, figures: Mapping[str, float]) -> None:
    said = "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "iteration")
    typer.echo(f"{int(figures['iteration']):>8}  {said}", err=True)
