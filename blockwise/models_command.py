"""`blockwise models`: list, get, suggest and update published models, convert checkpoints."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from blockwise.models import Registry

app = typer.Typer(no_args_is_help=True, help="Published models by name: list, fetch, choose.")

Json = Annotated[bool, typer.Option("--json", help="One JSON value on stdout.")]
Task = Annotated[str | None, typer.Option(help="Only of this task; needed where several have models.")]


@app.command("list")
def list_models(task: Task = None, json_: Json = False) -> None:
    """All known models, and which of them are on this machine."""
    rows = [
        {"task": name, "name": e.name, "present": e.present, "path": str(e.path), "url": e.url, "info": e.info}
        for name, registry in sorted(_registries(task).items())
        for e in registry.entries.values()
    ]
    if json_:
        _echo_json(rows)
        return
    for row in rows:
        typer.echo(f"{'*' if row['present'] else ' '} {row['name']:<56} {row['task']}  {row['info']}".rstrip())
    typer.echo(f"{len(rows)} models, * on this machine; fetch one: blockwise models get NAME", err=True)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="A name of `models list`.")],
    folder: Annotated[Path | None, typer.Option(help="Put it here instead of the user's folder ($BLOCKWISE_MODELS).")] = None,
) -> None:
    """Fetch a model unless it is there, and print where it lies; goes on where a download was cut off."""
    from blockwise.models import get as get_model

    typer.echo(str(get_model(name, folder)))


@app.command()
def suggest(
    frame_rate: Annotated[float, typer.Option(help="Of the recording, in Hz.")],
    indicator: Annotated[str | None, typer.Option(help="Calcium indicator, e.g. GCaMP6f.")] = None,
    causal: Annotated[bool | None, typer.Option(help="A kernel that is zero before the spike, or a symmetric one.")] = None,
    smoothing: Annotated[float | None, typer.Option(help="Standard deviation of the kernel, in s.")] = None,
    inhibitory: Annotated[bool, typer.Option(help="The neurons are interneurons.")] = False,
    task: Task = None,
    json_: Json = False,
) -> None:
    """Name the model that fits a recording, and say why; where none fits, exit with 2 and say what is nearest."""
    from blockwise.errors import ModelError

    chosen = _one_registry(task, advising=True)
    wishes = {"indicator": indicator, "causal": causal, "smoothing": smoothing, "inhibitory": inhibitory}
    suggestion = chosen.suggest(frame_rate=frame_rate, **wishes)
    if not suggestion.fits:
        raise ModelError(f"no model fits. {' '.join(suggestion.warnings)}\nNearest: {suggestion.name}. {suggestion.reason}")
    if json_:
        _echo_json(asdict(suggestion))
        return
    typer.echo(suggestion.name)
    for line in (suggestion.reason, *suggestion.warnings):
        typer.echo(line, err=True)


@app.command()
def update(url: Annotated[str, typer.Argument(help="A list of models: YAML, name -> Link, Info; URL or file.")], task: Task = None) -> None:
    """Read a newer list of models and keep it for this user: blockwise models update URL --task cascade."""
    from blockwise.models import update as update_list

    chosen = _one_registry(task)
    names = update_list(url, chosen.task)
    new = [n for n in names if n not in chosen.entries]
    typer.echo(f"{len(names)} models read, {len(new)} of them new" + (f": {', '.join(new)}" if new else ""))


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Of another program: a file, a folder, or what its files' names begin with.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    parameters: Annotated[Path | None, typer.Option(help="Its parameter.json, where none lies beside it.")] = None,
    activation: Annotated[
        str | None, typer.Option(help="After the mask's logits, where its files do not tell: sigmoid, relu or none.")
    ] = None,
    task: Task = None,
) -> None:
    """Write a checkpoint of another program in our form, which needs none of its files any more."""
    from blockwise.errors import ConfigError

    known = [r for r in _registries(task).values() if r.convert]
    if len(known) != 1 or known[0].convert is None:
        raise ConfigError(f"say whose checkpoint it is: --task {' or --task '.join(sorted(r.task for r in known)) or 'of another kind'}")
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: the file to write ends in .safetensors")
    typer.echo(known[0].convert(checkpoint, out, parameters=parameters, activation=activation), err=True)
    typer.echo(str(out))


def _registries(task: str | None) -> "dict[str, Registry]":
    from blockwise.errors import ConfigError
    from blockwise.models import registries

    known = registries()
    if task and task not in known:
        raise ConfigError(f"--task {task}: tasks with models are {', '.join(sorted(known))}")
    return {task: known[task]} if task else known


def _one_registry(task: str | None, *, advising: bool = False) -> "Registry":
    from blockwise.errors import ConfigError

    known = [r for r in _registries(task).values() if r.advise or not advising]
    if len(known) != 1:
        raise ConfigError(f"say which task's models are meant: --task {' or --task '.join(sorted(r.task for r in known))}")
    return known[0]


def _echo_json(value: Any) -> None:
    typer.echo(json.dumps(value))
