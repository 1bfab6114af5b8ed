"""`blockwise demo`: simulated data, a shipped model, and how well it does; one demo per science."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})

Folder = Annotated[Path, typer.Argument(help="Where everything goes.")]
Workers = Annotated[int, typer.Option(help="Local workers.")]


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    """Simulate data, run a shipped model on it, print how well it does: `cascade` unless another is named."""
    if context.invoked_subcommand is None:
        cascade()


@app.command()
def cascade(folder: Folder = Path("demo"), workers: Workers = 2) -> None:
    """Spike rates of three simulated recordings, compared with their true spikes."""
    from tasks.cascade.demo import demo

    demo(folder, workers)


@app.command()
def synful(folder: Folder = Path("demo-synful"), workers: Workers = 2) -> None:
    """Synaptic partners of a simulated EM volume, compared with its true partners."""
    from tasks.synful.demo import demo

    demo(folder, workers)
