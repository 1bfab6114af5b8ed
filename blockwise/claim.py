"""An output belongs to one run: its attributes name the run, the folder and the fingerprints it is made under.

Written when the group is made, before the first block, and again when a set of recordings grows. A crash leaves the old attributes or
the new, never a group without them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blockwise.errors import PlanRefused
from blockwise.folder import RunFolder
from blockwise.storage import check_group, create_group, group_attributes, set_group_attributes

ATTRIBUTE = "blockwise"


def claim_output(path: str | None, folder: RunFolder, fingerprints: Mapping[str, Mapping[str, str]]) -> None:
    """Make the output's group if need be and write this run into it.

    Raises
    ------
    PlanRefused : it belongs to another run, or something else lies there.
    """
    if path is None:
        return
    check_claim(path, folder.run)
    claim = {"run": folder.run, "folder": str(folder.path.absolute()), "fingerprint": {k: dict(v) for k, v in fingerprints.items()}}
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
    if claim and claim.get("run") != run:
        raise PlanRefused(
            f"{path} was made by another run ({claim.get('run')}, folder {claim.get('folder')}): go on with that [run] folder, "
            f"choose another [output] path, or remove {path}"
        )
    if not claim and Path(path).exists() and check_group(path):
        raise PlanRefused(f"{path} is a zarr group that no run of blockwise made: choose another [output] path or remove it")
    if not claim and begun:
        raise PlanRefused(
            f"{path} does not hold what this run has marked as done: put the output back or set [output] path to where it lies now, or "
            "`blockwise verify RUN --rebuild` takes the marks back, so that the blocks are computed anew"
        )


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
