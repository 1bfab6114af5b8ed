"""What all demos share: a configuration is run as a user would run it, and the addresses where it could be watched are noted."""

import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer


@dataclass(frozen=True, slots=True)
class Shown:
    """A demo's run: seconds it took, addresses of the dashboard and the page (none if nothing was left to do), the report."""

    took_s: float
    addresses: tuple[str, ...]
    report: Path

    def echo(self, **places: Path) -> None:
        """Print the addresses, the run folder, the report and further places."""
        for what, where in zip(("Dask dashboard (while it ran)", "live page (while it ran)"), self.addresses, strict=False):
            typer.echo(f"{what}: {where}")
        for what, place in {"run folder": self.report.parent, "report": self.report, **places}.items():
            typer.echo(f"{what}: {place}")


def run_shown(file: Path) -> Shown:
    """Run a configuration with progress on stderr and write its report; leaves with the run's exit code if it failed."""
    from blockwise.config import load_config, with_places
    from blockwise.monitor.progress import subscriber_for
    from blockwise.run import run, task_class
    from blockwise.upkeep import report

    began, addresses = time.perf_counter(), list[str]()
    config = load_config(file)
    with closing(subscriber_for(sys.stderr)) as show:
        outcome = run(with_places(config, file, task_class(config).Options), subscribers=[show, lambda event: _note(event, addresses)])
    took_s = time.perf_counter() - began
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)
    return Shown(took_s, tuple(addresses), Path(report(file.with_suffix(".run"))))


def draw(file: Path, picture: Path) -> None:
    """Write the first picture of a run that is done."""
    from blockwise.config import load_config, with_places
    from blockwise.run import load_task, task_class

    config = load_config(file)
    picture.write_bytes(load_task(with_places(config, file, task_class(config).Options)).pictures()[0].png)


def _note(event: Any, addresses: list[str]) -> None:
    from blockwise.events import RunStarted

    if isinstance(event, RunStarted):
        addresses += [event.dashboard, event.page]
