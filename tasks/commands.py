"""`blockwise train`: one command for all sciences that train, which tells by the file it is given whose it is."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[
        Path,
        typer.Argument(help="TOML: Cascade (`blockwise init cascade-training GROUND_TRUTH`). parameter.json, or its run folder: Synful."),
    ],
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, over the file.", show_default=False)] = None,
    adopt: Annotated[list[str] | None, typer.Option("--adopt", help="Go on although this key differs.", show_default=False)] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only warnings, failures and the end.")] = False,
) -> None:
    """Train a network, or go on with its training: a Cascade ensemble, or a Synful U-Net."""
    if is_synful(config):
        from tasks.synful.training.command import train_command

        train_command(config, changes=set_ or (), adopt=adopt or (), json_=json_, quiet=quiet)
    else:
        from tasks.cascade.commands import train as train_cascade

        train_cascade(config, set_=set_, adopt=adopt, json_=json_, quiet=quiet)


def is_synful(config: Path) -> bool:
    """A JSON file, or the folder of a run that keeps one."""
    return config.suffix == ".json" or (config / "parameter.json").is_file()
