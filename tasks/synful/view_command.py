"""`blockwise view`: a run in neuroglancer, or a snapshot of a training as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tasks.synful.formats.links import Scene
    from tasks.synful.task import Pipeline

LOCAL = "http://127.0.0.1"


def view(
    run: Annotated[Path, typer.Argument(help="A run folder, of Synful or of its training.", show_default=False)],
    serve: Annotated[bool, typer.Option("--serve", help="Serve local volumes and partners to the page, until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(help="To serve at.")] = 9100,
    at: Annotated[str | None, typer.Option(help="Where to look: z,y,x in nm; by default the best partner.", show_default=False)] = None,
    page: Annotated[str | None, typer.Option(help="Another neuroglancer than the public one.", show_default=False)] = None,
    snapshot: Annotated[int | None, typer.Option(help="Of a training: iteration of the snapshot, -1 the last.", show_default=False)] = None,
    section: Annotated[int | None, typer.Option(help="Of the snapshot; by default the one with most in it.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="PNG of the snapshot; by default beside it.", show_default=False)] = None,
) -> None:
    """Print a neuroglancer link to a run's volume, predictions and partners, or draw a snapshot of a training."""
    if snapshot is not None:
        typer.echo(str(draw_snapshot(run, snapshot, section=section, out=out)))
        return
    task = synful_of(run)
    folders, scene, missing = scene_of(task, f"{LOCAL}:{port}", page)
    for sentence in missing:
        typer.echo(sentence, err=True)
    link = scene.link(position(at) if at else None, line=None if at or not finds_partners(task) else best_partner(task))
    typer.echo(link)
    if not serve:
        if folders:
            typer.echo("It shows local files while they are served: the same with --serve", err=True)
        return
    from tasks.synful.file_server import file_server

    with file_server(folders, port) as server:
        typer.echo(f"Serving {', '.join(map(str, folders.values()))} at {LOCAL}:{port} until Ctrl-C", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("Stopped.", err=True)


def draw_snapshot(run: Path, which: int, *, section: int | None, out: Path | None) -> Path:
    """Draw a training's snapshot into a PNG file; where it lies."""
    from blockwise.storage import write_atomic
    from tasks.synful.training.run_folder import TrainingFolder
    from tasks.synful.training.snapshots import render_snapshot

    picture = render_snapshot(run, which, section=section)
    file = out or TrainingFolder(run).snapshot(which).with_suffix(".png")
    write_atomic(file, picture)
    return file


def synful_of(run: Path) -> "Pipeline":
    """The Synful task of a run folder.

    Raises
    ------
    MissingError : no run there.  ConfigError : a run of something else.
    """
    from blockwise.errors import ConfigError
    from blockwise.run import load_task
    from blockwise.upkeep import config_of
    from tasks.synful.task import Pipeline

    config = config_of(run)
    task = load_task(config)
    if not isinstance(task, Pipeline):
        raise ConfigError(f"{run} is a run of {config.task}: this shows runs of synful, and its trainings with --snapshot")
    return task


def finds_partners(task: "Pipeline") -> bool:
    """Whether a run goes on from predictions to partners."""
    return task.job.options.mode != "predict" or task.job.predictions is not None


def final_cells(task: "Pipeline") -> Any:
    """The last data set of partners that a run has made so far.

    Raises
    ------
    MissingError : none yet.  ConfigError : it makes none.
    """
    from blockwise.errors import ConfigError, MissingError
    from tasks.synful.cells import Cells

    if not finds_partners(task):
        raise ConfigError(f"{task.job.output} holds predictions: mode = 'predict' finds no partners, synful-extract finds them there")
    made = [getattr(s, n, None) for s in task.stages() for n in ("cells", "target", "kept") if not s.name.startswith("pairs-")]
    found = [cells for cells in made if isinstance(cells, Cells)]
    whole = [cells for cells in found if cells.folder.is_dir() and any(cells.folder.iterdir())]
    if not whole:
        raise MissingError(f"{task.job.output} holds no partners yet: `blockwise run` makes them")
    return whole[-1]


def best_partner(task: "Pipeline") -> dict[str, Any] | None:
    """The row of the highest score; None where there are no partners."""
    import pyarrow.compute as pc

    from tasks.synful.formats.stream import batches
    from tasks.synful.partners import COLUMNS

    best: dict[str, Any] | None = None
    for rows in batches(final_cells(task).folder, COLUMNS):
        top: dict[str, Any] = rows.slice(int(pc.index(rows["score"], pc.max(rows["score"])).as_py()), 1).to_pylist()[0]
        best = top if best is None or top["score"] > best["score"] else best
    return best


def position(text: str) -> list[float]:
    """z, y, x of "z,y,x".

    Raises
    ------
    ConfigError : it is not three numbers.
    """
    from blockwise.errors import ConfigError

    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--at {text}: write z,y,x in nm, e.g. --at 4000,1200,800") from None
    return [z, y, x]


def scene_of(task: "Pipeline", server: str, page: str | None) -> tuple[dict[str, Path], "Scene", list[str]]:
    """What a run can show: folders to be served by name, the scene, and a sentence on each thing that cannot be shown."""
    from blockwise.storage.context import local_path
    from tasks.synful.formats.links import PAGE, Place, Scene, layer_of
    from tasks.synful.raw import RAW_NAMES

    folders: dict[str, Path] = {}
    missing: list[str] = []
    layers: dict[str, Any] = {}
    raw, mapped = task.job.raw, task.options.map
    for name, path, variable in (
        ("volume", raw and raw.path, raw and raw.variable),
        ("segmentation", mapped.segmentation, mapped.segmentation_variable),
    ):
        if path is None:
            continue
        place = Place(raw.stored_voxel_size, raw.stored_offset) if raw and name == "volume" else None
        layers[name] = layer_of(path, variable, served=f"{server}/{name}", place=place, defaults=RAW_NAMES if place else ())
        if layers[name] is None:
            missing.append(f"The {name} {path} is left out: neuroglancer reads zarr, N5 and precomputed")
        elif (local := local_path(path)) is not None:
            folders[name] = local
    kept = kept_layers(task, f"{server}/predictions")
    if kept and (local := local_path(task.job.kept_predictions().path)) is not None:
        folders["predictions"] = local
    annotations = annotations_of(task)
    if annotations is not None:
        folders["partners"] = annotations
    elif finds_partners(task):
        missing.append('Partners are left out: set [options] exports = ["neuroglancer"], and run again')
    served = f"{server}/partners" if annotations else None
    return folders, Scene(layers.get("volume"), layers.get("segmentation"), served, page or PAGE, **kept), missing


def kept_layers(task: "Pipeline", served: str) -> dict[str, Any]:
    """The predictions that a run keeps, or reads, for `Scene`; nothing where it keeps none."""
    from tasks.synful.formats.links import layer_of

    if task.job.options.mode == "fused" and task.job.predictions is None:
        return {}
    kept = task.job.kept_predictions()
    layers = {name: layer_of(kept.path, variable, served=served) for name, variable in (("mask", kept.mask), ("vectors", kept.vectors))}
    return {**layers, "mask_scale": kept.mask_scale} if layers["mask"] else {}


def annotations_of(task: "Pipeline") -> Path | None:
    """The folder of precomputed annotations that a run has written, if it has."""
    from tasks.synful.export_stage import Exports

    stages: list[Exports] = [s for s in task.stages() if isinstance(s, Exports) and "neuroglancer" in s.formats]
    targets = [s.target("neuroglancer") for s in stages]
    return next((t for t in targets if (t / "info").is_file()), None)
