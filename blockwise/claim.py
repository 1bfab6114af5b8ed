"""An output belongs to one run: its attributes name the run, the folder and the fingerprints it is made under.

Written once before the first block, and again when a set of recordings grows. A crash leaves the old attributes or the new.
"""

from collections.abc import Mapping
from pathlib import Path

from blockwise.errors import PlanRefused
from blockwise.folder import RunFolder
from blockwise.storage import create_group, group_attributes, set_group_attributes

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
    create_group(path)
    claim = {"run": folder.run, "folder": str(folder.path.absolute()), "fingerprint": {k: dict(v) for k, v in fingerprints.items()}}
    set_group_attributes(path, {ATTRIBUTE: claim})


def check_claim(path: str, run: str) -> None:
    """Refuse an output that another run made."""
    claim = group_attributes(path).get(ATTRIBUTE) if Path(path).exists() else None
    if isinstance(claim, dict) and claim.get("run") != run:
        raise PlanRefused(
            f"{path} was made by another run ({claim.get('run')}, folder {claim.get('folder')}): go on with that [run] folder, "
            f"choose another [output] path, or remove {path}"
        )
