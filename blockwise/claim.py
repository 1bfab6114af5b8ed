"""An output belongs to one run: its attributes name the run, the folder, the fingerprints it is made under and its exports.

Written when the group is made, before the first block, and again when a set of recordings grows. A crash leaves the old attributes or
the new, never a group without them.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blockwise.errors import LedgerError, PlanRefused, StorageError
from blockwise.fingerprint import check, fingerprint
from blockwise.folder import RunFolder
from blockwise.ledger import Ledger
from blockwise.storage import check_group, create_group, group_attributes, set_group_attributes
from blockwise.task import Task

ATTRIBUTE = "blockwise"
STARTED = "run"
"""Name of the value by which a ledger knows its run, from the run's first start on."""


def claim_output(path: str | None, folder: RunFolder, fingerprints: Mapping[str, Mapping[str, str]], exports: Iterable[Path] = ()) -> None:
    """Make the output's group if need be and write this run into it.

    Parameters
    ----------
    exports : files that the run writes beside the output; those of earlier starts stay its own.

    Raises
    ------
    PlanRefused : it belongs to another run, or something else lies there.
    """
    if path is None:
        return
    check_claim(path, folder.run)
    names = sorted({*claim_of(path).get("exports", ()), *(file.name for file in exports)})
    prints = {k: dict(v) for k, v in fingerprints.items()}
    claim = {"run": folder.run, "folder": str(folder.path.absolute()), "fingerprint": prints, "exports": names}
    create_group(path, {ATTRIBUTE: claim})
    set_group_attributes(path, {ATTRIBUTE: claim})


def check_claim(path: str, run: str, *, begun: bool = False) -> None:
    """Refuse an output that another run made, or that no run made.

    Parameters
    ----------
    run : id of the run that wants it, "" for one whose folder is not there yet.
    begun : blocks are marked as done, so the run's output must be there: in another they would be missing.

    Raises
    ------
    PlanRefused
    """
    claim = claim_of(path)
    if not claim and Path(path).exists() and check_group(path):
        claim = claim_of(path)  # another driver of this run may have made it since
        if not claim:
            raise PlanRefused(f"{path} is a zarr group that no run of blockwise made: choose another [output] path or remove it")
    if claim and claim.get("run") != run:
        raise PlanRefused(
            f"{path} was made by another run ({claim.get('run')}, folder {claim.get('folder')}): go on with that [run] folder, "
            f"choose another [output] path, or remove {path}"
        )
    if not claim and begun:
        raise PlanRefused(
            f"{path} does not hold what this run has marked as done: put the output back or set [output] path to where it lies now, or "
            "`blockwise verify RUN --rebuild` takes the marks back, so that the blocks are computed anew"
        )


def refuse_lost(folder: RunFolder, ledger: Ledger) -> None:
    """Refuse a ledger that knows nothing of a run which was started: it would compute everything again.

    Raises
    ------
    LedgerError : says how to restore it.
    """
    if folder.starts() and ledger.get(STARTED) is None:
        raise LedgerError(
            f"the ledger {ledger.url} holds nothing of the run in {folder.path}, which was started before: it was emptied or deleted; "
            f"`blockwise verify {folder.path} --rebuild` restores it from the output, `blockwise clean {folder.path} --all` deletes the run"
        )


def check_same_task(task: Task, path: str) -> None:
    """Refuse a task whose output was made with another grid, model, input or options.

    Raises
    ------
    FingerprintMismatch : names the keys that differ with both values.
    """
    then: dict[str, dict[str, str]] = claim_of(path).get("fingerprint", {})
    for stage in task.stages():
        for index, domain in enumerate(stage.domains()):
            name = f"{stage.name}/{domain.name}"
            if name in then:
                check(f"{path}, {name}", then[name], fingerprint(stage, index), places=stage.places(index))


def check_exports(files: Iterable[Path], path: str, folder: RunFolder | None) -> None:
    """Refuse exports that would replace files which this run did not write: two runs into one folder must not share a name.

    Its own are those that the output's claim lists; where the output was lost, or claimed before exports were listed, all of them.

    Raises
    ------
    PlanRefused
    """
    claim = claim_of(path)
    begun = folder is not None and (folder.path / "config.json").exists()
    if (claim and "exports" not in claim) or (begun and not claim):
        return
    foreign = [file for file in files if file.name not in claim.get("exports", ())]
    others = _exporters(Path(path), {file.parent for file in foreign})
    taken = [(file, others.get(file)) for file in foreign if file in others or file.exists()]
    if taken:
        file, other = taken[0]
        whose = f"belongs to the run that writes {other}" if other else "was not written by this run"
        more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
        away = "" if other else ", or move the file away"
        raise PlanRefused(
            f"the export {file}{more} {whose}, and would be replaced: put [output] path into another folder, or give the session another "
            f"name{away}"
        )


def _exporters(output: Path, folders: Iterable[Path]) -> dict[Path, Path]:
    """Export -> the output, other than ours, whose claim lists it, in the given folders."""
    siblings = [s for f in folders if f.is_dir() for s in f.iterdir() if (s / "zarr.json").is_file() and s != output.absolute()]
    return {sibling.parent / name: sibling for sibling in siblings for name in _listed_exports(sibling)}


def _listed_exports(output: Path) -> list[str]:
    """What a neighbour says it exports; nothing where it cannot be read, for then it is no output of ours."""
    try:
        return list(claim_of(str(output)).get("exports", ()))
    except StorageError:
        return []


def check_same_output(folder: RunFolder, path: str) -> None:
    """Refuse a run folder that was made for another output: a second recording must not take over the run of the first.

    An output that was moved carries its claim, and is let through.

    Raises
    ------
    PlanRefused
    """
    if not (folder.path / "config.json").exists() or claim_of(path):
        return
    before = folder.load_config().output.path
    if before is not None and before != path:
        raise PlanRefused(
            f"{folder.path} is the folder of the run that writes {before}, and this one writes {path}: give it a folder of its own "
            "([run] folder; by default it is named after the configuration's file), or set [output] path back"
        )


def claim_of(path: str) -> dict[str, Any]:
    """What an output says of the run that made it; empty where it says nothing or is not there."""
    claim = group_attributes(path).get(ATTRIBUTE)
    return claim if isinstance(claim, dict) else {}
