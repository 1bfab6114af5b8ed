"""One command. Every subcommand calls a public function, shows what it returns, and exits with what it means:

0 done, 1 failed blocks, 2 usage or refused plan, 3 interrupted and resumable. With --json one object of a frozen, versioned type goes
to stdout; everything else goes to stderr. Commands of tasks (train, benchmark, models, demo) come from the entry points
`blockwise.commands` and are imported when they are called.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from importlib.metadata import EntryPoint, entry_points
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blockwise._version import __version__
from blockwise.errors import BlockwiseError, ConfigError
from blockwise.redaction import redact, redact_urls

if TYPE_CHECKING:
    from blockwise.config import RunConfig
    from blockwise.run import Outcome

USAGE, INTERRUPTED = 2, 3
BY_CTRL_C = 130
"""Typer's exit code where Ctrl-C came before or after a command had handlers of its own."""

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
FURTHER = "blockwise.commands"
"""Entry points that add commands."""


class _Commands(typer.core.TyperGroup):
    """All commands; those that tasks add are imported for their line of help when the list is shown, and not before."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for entry in entry_points(group=FURTHER):
            self.commands[entry.name].help = _line_of_help(entry)
        super().format_help(ctx, formatter)


def _line_of_help(entry: EntryPoint) -> str:
    try:
        told = typer.main.get_command(_as_typer(entry.load())).help or ""
    except ImportError as error:
        return f"Cannot be imported: {error}"
    return told.partition("\n")[0]


app = typer.Typer(cls=_Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, context_settings=HELP_NAMES)

Config = Annotated[Path, typer.Argument(help="A TOML configuration, as `blockwise init` writes one, or a run folder.", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]
Set = Annotated[list[str] | None, typer.Option("--set", help="section.key=value, over the file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Adopt = Annotated[list[str] | None, typer.Option("--adopt", help="Go on although this fingerprint key differs.", show_default=False)]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Run models over huge volumes and long recordings, blockwise and resumable."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def init(
    task: Annotated[str, typer.Argument(help="A task, e.g. cascade.")],
    source: Annotated[str, typer.Argument(help="What it shall read.")],
    frame_rate: Annotated[
        float | None, typer.Option(help="Of a recording, in Hz; what the file states where not given.", show_default=False)
    ] = None,
) -> None:
    """Print a commented configuration for an input: blockwise init cascade RECORDING > run.toml."""
    from inspect import signature

    from blockwise.config import RunConfig, validated
    from blockwise.run import task_class
    from blockwise.task import Task

    template = task_class(validated(RunConfig, {"task": task})).template
    if template.__func__ is Task.template.__func__:  # type: ignore[attr-defined]
        raise ConfigError(f"{task} writes no configuration of its own: begin with its preset in configs/")
    given = {} if frame_rate is None else {"frame_rate": frame_rate}
    if given and "frame_rate" not in signature(template).parameters:
        raise ConfigError(f"--frame-rate {frame_rate:g}: a configuration of {task} has none; leave it out")
    typer.echo(template(source, **given), nl=False)


@app.command()
def run(
    config: Config,
    set_: Set = None,
    adopt: Adopt = None,
    json_: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only warnings, failures and the end.")] = False,
) -> None:
    """Run a configuration, or go on with it where it stopped; a finished run writes nothing."""
    with _interruptible():
        _drive(_configured(config, set_), adopt=adopt, json_=json_, quiet=quiet)


@app.command()
def retry(folder: RunPath, set_: Set = None, adopt: Adopt = None, json_: Json = False) -> None:
    """Try the failed blocks of a run anew, and whatever else remains."""
    from blockwise.upkeep import config_of

    config_of(folder)
    with _interruptible():
        _drive(_configured(folder, set_), adopt=adopt, json_=json_, retry_failed=True)


def _drive(config: "RunConfig", *, adopt: list[str] | None, json_: bool, quiet: bool = False, retry_failed: bool = False) -> None:
    from blockwise.monitor.progress import subscriber_for
    from blockwise.run import run as run_config

    with closing(subscriber_for(sys.stderr, quiet=quiet)) as show:
        outcome = run_config(config, adopt=adopt or (), subscribers=[show], retry_failed=retry_failed)
    _show_end(outcome, json_)
    raise typer.Exit(outcome.exit_code)


def _show_end(outcome: "Outcome", json_: bool) -> None:
    from blockwise.monitor.text import failure_text

    if outcome.status.failures:
        typer.echo(failure_text(outcome.status.failures), err=True)
        typer.echo(f"Try them again with: blockwise retry {outcome.status.folder}", err=True)
    if json_:
        _echo_json(outcome.status.to_json())


@app.command()
def plan(
    config: Config,
    set_: Set = None,
    pilot: Annotated[
        int | None,
        typer.Option(help="Blocks to compute for the estimate of time; by default 20 in a minute.", show_default=False),
    ] = None,
    json_: Json = False,
) -> None:
    """Show blocks, bytes, memory, time and alignment of a run, without writing anything."""
    from blockwise.monitor.plan_text import plan_text
    from blockwise.run import plan as plan_config

    found = plan_config(_configured(config, set_), pilot_blocks=20 if pilot is None else pilot, pilot_s=60 if pilot is None else inf)
    if json_:
        _echo_json(found.to_json())
    else:
        typer.echo(redact(plan_text(found)))
    raise typer.Exit(USAGE if found.refusals else 0)


@app.command()
def status(
    folder: RunPath, json_: Json = False, watch: Annotated[bool, typer.Option("--watch", help="Go on until the run ends.")] = False
) -> None:
    """Show the state of a run, from any machine that sees its folder."""
    from blockwise.monitor.text import status_text
    from blockwise.monitor.text import watch as watch_status
    from blockwise.upkeep import status as read_status

    found = watch_status(lambda: read_status(folder)) if watch else read_status(folder)
    if json_:
        _echo_json(found.to_json())
    elif not watch:
        typer.echo(status_text(found))


@app.command()
def verify(
    folder: RunPath,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Mark what is complete, too; restores a lost ledger.")] = False,
    json_: Json = False,
) -> None:
    """Hold the outputs of a run against its ledger, block by block; what is missing or changed is computed anew by the next run."""
    from blockwise.upkeep import verify as verify_run

    verdicts = verify_run(folder, rebuild=rebuild)
    if json_:
        _echo_json({"version": 1, "stages": [asdict(v) for v in verdicts]})
    for v in () if json_ else verdicts:
        typer.echo(
            f"{v.stage}: {v.total} blocks, {v.marked} marked, {v.checked} complete, {v.missing} missing, {v.changed} changed, "
            f"{v.unmarked} complete but not marked, {v.rebuilt} corrected"
        )
    wrong = sum(v.missing + v.changed for v in verdicts)
    if sum(v.rebuilt for v in verdicts):
        typer.echo(f"The ledger was corrected. What is missing or changed is computed anew by: blockwise run {folder}", err=True)
    elif wrong and not rebuild:
        typer.echo(f"Nothing was taken back. If the output is where it belongs: blockwise verify {folder} --rebuild", err=True)
    raise typer.Exit(1 if wrong and not rebuild else 0)


@app.command()
def report(
    folder: RunPath, output: Annotated[Path | None, typer.Option(help="Where; report.html in the folder by default.")] = None
) -> None:
    """Write one HTML page about a run, with pictures."""
    from blockwise.upkeep import report as write

    typer.echo(write(folder, output))


@app.command()
def clean(
    folder: RunPath,
    everything: Annotated[bool, typer.Option("--all", help="Delete the output and the run folder too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Sweep what killed writers and drivers left of a run (files, jobs); with --all delete the run."""
    from blockwise.upkeep import clean as clean_run
    from blockwise.upkeep import own_output

    if everything and not yes:
        output = own_output(folder)
        question = f"Delete {folder} and its output, {output}?" if output else f"Delete {folder}? No output of this run is there."
        typer.confirm(question, abort=True)
    cleaned = clean_run(folder, everything=everything)
    gone = [name for name, deleted in (("the output", cleaned.output), ("the run folder", cleaned.folder)) if deleted]
    jobs = f", {cleaned.jobs} jobs cancelled" if cleaned.jobs else ""
    typer.echo(f"{cleaned.leftovers} leftover files removed{jobs}" + (f", {' and '.join(gone)} deleted" if gone else ""))


@app.command()
def doctor(json_: Json = False) -> None:
    """Show versions, devices, tasks and what of the optional parts is missing."""
    from blockwise.doctor import doctor_text, examine

    found = examine()
    if json_:
        _echo_json(found)
    else:
        typer.echo(doctor_text(found))


def _configured(path: Path, overrides: list[str] | None) -> "RunConfig":
    """The configuration in a file, or the one that a run folder was last started with, with overrides and absolute paths."""
    from blockwise.upkeep import configured

    return configured(path, overrides or ())


def _echo_json(values: Any) -> None:
    typer.echo(redact_urls(json.dumps(values, default=str)))


@contextmanager
def _teaching() -> Iterator[None]:
    """Errors of ours as one message and exit code 2."""
    try:
        yield
    except BlockwiseError as error:
        kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        typer.echo(redact(f"blockwise: {kind}{error}"), err=True)
        sys.exit(USAGE)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the process with 3 whenever no driver listens to them: while it plans, and while it closes."""

    def leave(*_: object) -> None:
        sys.exit(INTERRUPTED)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _add_command(entry: EntryPoint) -> None:
    """Register a command that a task adds; what it runs is imported when it is called, not to be listed."""
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    @app.command(entry.name, context_settings=passed_on)
    def call(ctx: typer.Context) -> None:
        _as_typer(entry.load())(ctx.args, prog_name=f"blockwise {entry.name}")


def _as_typer(found: Any) -> typer.Typer:
    """What an entry point of commands names: an app of its own, or the function of one command."""
    if isinstance(found, typer.Typer):
        return found
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=HELP_NAMES)
    single.command()(found)
    return single


for _entry in sorted(entry_points(group=FURTHER), key=lambda e: e.name):
    _add_command(_entry)


def _show_redacted(kind: type[BaseException], error: BaseException, frames: Any) -> None:
    """What Python prints of an exception that nobody caught, without secrets."""
    from traceback import format_exception

    sys.stderr.write(redact("".join(format_exception(kind, error, frames))))


def main(command: Callable[[], Any] = app) -> None:
    """The console script; Ctrl-C at a moment when nobody else listens to it ends with 3, and tracebacks of ours show no secrets."""
    sys.excepthook = _show_redacted
    with _teaching():
        try:
            command()
        except SystemExit as end:
            sys.exit(INTERRUPTED if end.code == BY_CTRL_C else end.code)


if __name__ == "__main__":
    main()
