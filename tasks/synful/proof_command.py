"""`blockwise proof`: a sheet of random partners of a run to judge by eye, and the precision that the verdicts say."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tasks.synful.proof_sheet import Precision, Ticks


def proof(
    run: Annotated[Path | None, typer.Argument(help="A run folder of Synful.", show_default=False)] = None,
    read: Annotated[Path | None, typer.Option(help="A ticked proof.csv: print the precision it says.", show_default=False)] = None,
    folder: Annotated[Path | None, typer.Option(help="For the sheet; by default beside the output.", show_default=False)] = None,
    bins: Annotated[int, typer.Option(help="Of scores, with equally many partners each.")] = 5,
    per_bin: Annotated[int, typer.Option(help="Partners to judge of each.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the choice.")] = 0,
    port: Annotated[int, typer.Option(help="Where `view --serve` serves local volumes for the links.")] = 9100,
    page: Annotated[str | None, typer.Option(help="Another neuroglancer than the public one.", show_default=False)] = None,
    json_: Annotated[bool, typer.Option("--json", help="The precision as one JSON object on stdout.")] = False,
) -> None:
    """Write a proof sheet: random partners per score as pictures, and a CSV to tick; --read tells precision."""
    from blockwise.errors import ConfigError

    if read is not None:
        from tasks.synful.proof_sheet import read_ticks

        ticks = read_ticks(read)
        typer.echo(json.dumps(as_json(ticks)) if json_ else text(ticks))
        return
    if run is None:
        raise ConfigError("name a run folder to write a proof sheet of, or a ticked proof.csv with --read")
    sheet, ticks_file = write_proof(run, folder, (bins, per_bin, seed), (port, page))
    typer.echo(str(sheet))
    typer.echo(f"Judge them, write y or n into {ticks_file}, then: blockwise proof --read {ticks_file}", err=True)


def write_proof(run: Path, folder: Path | None, how: tuple[int, int, int], link: tuple[int, str | None]) -> tuple[Path, Path]:
    """The sheet of a run: paths of its page and its CSV.

    Parameters
    ----------
    how : bins, partners per bin, seed.  link : port of the local server, and the page of neuroglancer.

    Raises
    ------
    ConfigError : a run without a volume.  InputError : no partners.  PlanRefused : a sheet is there.
    """
    from blockwise.errors import ConfigError, InputError
    from tasks.synful.cells import read_partners
    from tasks.synful.cutouts import Camera
    from tasks.synful.proof_sheet import proof_sheet, sample
    from tasks.synful.view_command import LOCAL, final_cells, scene_of, synful_of

    task = synful_of(run)
    raw = task.job.raw
    if raw is None:
        raise ConfigError(f"{run} has extracted stored predictions and names no raw volume: there is nothing to take pictures of")
    (bins, per_bin, seed), (port, page) = how, link
    partners = read_partners(final_cells(task).folder)
    if not partners.num_rows:
        raise InputError(
            f"{run} has no partners to judge: lower threshold or min_score in [options.extract], or the filters, and run again"
        )
    sampled = sample(partners, bins=bins, per_bin=per_bin, seed=seed)
    output = Path(task.job.output).absolute()
    place = folder or output.with_name(f"{output.stem}.proof")
    _, scene, _ = scene_of(task, f"{LOCAL}:{port}", page)
    reader = raw.open()
    try:
        camera = Camera(Stored(reader), raw.voxel_size, raw.offset)
        return proof_sheet(sampled, camera, place, link=lambda row: scene.link(line=row))
    finally:
        reader.close()


class Stored:
    """The grey values of a raw volume as an array that is read by region: what pictures are taken of."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.shape, self.dtype = reader, reader.shape, reader.dtype

    def read(self, region: Any) -> Any:
        return self.reader.inside(region)


def as_json(ticks: "Ticks") -> dict[str, Any]:
    """Precision over all and per bin, the lowest scores first."""
    return {"overall": asdict(ticks.overall), "bins": {str(b): asdict(p) for b, p in ticks.bins.items()}}


def text(ticks: "Ticks") -> str:
    """The same as lines."""
    lines = [f"{'bin of scores':<16}{'right':>7}{'wrong':>7}{'of':>10}  precision (95 %)"]
    for name, found in [*((f"{b}", p) for b, p in ticks.bins.items()), ("all", ticks.overall)]:
        lines.append(f"{name:<16}{found.right:>7}{found.wrong:>7}{found.size:>10}  {_share(found)}")
    return "\n".join(lines)


def _share(found: "Precision") -> str:
    judged = "-" if not found.right + found.wrong else f"{found.precision:.3f}"
    return f"{judged} ({found.low:.3f} to {found.high:.3f})"
