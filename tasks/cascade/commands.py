"""`blockwise train` and `blockwise benchmark`: runs of the tasks of training_task.py and benchmark_task.py."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def train(
    config: Annotated[Path, typer.Argument(help="A TOML configuration; `blockwise init cascade-training GROUND_TRUTH` writes one.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, over the file.", show_default=False)] = None,
    adopt: Annotated[list[str] | None, typer.Option("--adopt", help="Go on although this fingerprint key differs.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only warnings, failures and the end.")] = False,
) -> None:
    """Train a Cascade ensemble, or go on with it: `blockwise run` with task = "cascade-training"."""
    from blockwise.cli import run

    run(config, set_=[*(set_ or ()), "task=cascade-training"], adopt=adopt, json_=json_, quiet=quiet)


def benchmark(
    model: Annotated[str, typer.Option(help="Model folder or name: gives rate, smoothing and network, and is scored on the same traces.")],
    ground_truth: Annotated[Path, typer.Option(help="Folder of ground-truth datasets.")],
    out: Annotated[Path, typer.Option(help="Folder for scores.json and scores.csv; the run is kept beside it, in OUT.run.")],
    level: Annotated[int, typer.Option(help="Noise level to train and test at.")] = 2,
    datasets: Annotated[str | None, typer.Option(help="Comma-separated, to train on and hold out; all where not given.")] = None,
    held_out: Annotated[
        list[str] | None, typer.Option(help="Comma-separated datasets to hold out together; repeat for more folds.")
    ] = None,
    members: Annotated[int, typer.Option(help="Members of each ensemble.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training.")] = None,
    workers: Annotated[int | None, typer.Option(help="Local workers; one per core where not given.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="The scores as one JSON object on stdout.")] = False,
) -> None:
    """Train Cascade without each dataset in turn (or each --held-out group) and score on what was held out, neuron by neuron."""
    import sys
    from contextlib import closing

    from blockwise.config import RunConfig, validated
    from blockwise.monitor.progress import subscriber_for
    from blockwise.run import run

    options = benchmark_options(model, level=level, datasets=datasets, held_out=held_out, members=members, epochs=epochs)
    values = {
        "task": "cascade-benchmark",
        "input": {"path": str(ground_truth)},
        "model": {"path": model},
        "output": {"path": str(out)},
        "options": options,
        "cluster": {"workers": workers},
        "run": {"folder": f"{out}.run"},
    }
    with closing(subscriber_for(sys.stderr)) as show:
        outcome = run(validated(RunConfig, values), subscribers=[show])
    if outcome.exit_code == 0:
        scores = json.loads((out / "scores.json").read_text())
        typer.echo(json.dumps(scores) if json_ else table(scores["datasets"]))
    raise typer.Exit(outcome.exit_code)


def benchmark_options(
    model: str, *, level: int, datasets: str | None, held_out: list[str] | None, members: int, epochs: int | None
) -> dict[str, Any]:
    """`[options]` of the benchmark: the model's settings, and what was asked for."""
    from tasks.cascade.model import load_model
    from tasks.cascade.model_folder import training_config

    settings = training_config(load_model(model).path, nr_of_epochs=epochs).model_dump()
    folds = [fold.split(",") for fold in held_out or ()]
    return {
        **settings,
        "noise_level": level,
        "ensemble_size": members,
        "datasets": datasets.split(",") if datasets else None,
        "held_out": folds or None,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Scores as lines of text: medians over the neurons of each dataset."""
    lines = [f"{'dataset':42}{'scored':10}{'neurons':>8}{'correlation':>13}{'error':>8}{'bias':>8}{'joined':>8}"]
    for row in rows:
        values = "".join(f"{_number(row[key]):>{width}}" for key, width in (("correlation", 13), ("error", 8), ("bias", 8), ("joined", 8)))
        lines.append(f"{row['dataset']:42}{row['scored']:10}{row['neurons']:>8}{values}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
