"""What of this machine blockwise can use: versions, devices, tasks, and the optional parts that are missing."""

import platform
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from blockwise._version import __version__
from blockwise.folder import versions

OPTIONAL = {"tensorflow": "tensorflow", "pynwb": "nwb", "s3fs": "s3"}
"""Module -> the extra that brings it."""


def examine() -> dict[str, Any]:
    """A JSON-ready account of this installation."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    return {
        "version": 1,
        "blockwise": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "supported": (3, 11) <= sys.version_info[:2] <= (3, 13) and sys.platform != "win32",
        "cores": psutil.cpu_count(),
        "memory_gb": round(memory.total / 1e9, 1),
        "memory_free_gb": round(memory.available / 1e9, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else [],
        "packages": versions(),
        "tasks": sorted(e.name for e in entry_points(group="blockwise.tasks")),
        "missing": {m: f"pip install -e '.[{extra}]' in the checkout" for m, extra in OPTIONAL.items() if find_spec(m) is None},
    }


def doctor_text(found: dict[str, Any]) -> str:
    """The account as lines for a person."""
    packages = ", ".join(f"{k} {v}" for k, v in found["packages"].items())
    lines = [
        f"blockwise {found['blockwise']} on Python {found['python']}, {found['system']}",
        f"{found['cores']} cores, {found['memory_gb']} GB of memory, {found['memory_free_gb']} GB free",
        "GPUs: " + (", ".join(found["gpus"]) or "none that torch can use; everything runs on the CPU"),
        f"packages: {packages}",
        f"tasks: {', '.join(found['tasks'])}",
        *(f"not installed: {module} ({how})" for module, how in found["missing"].items()),
    ]
    if not found["supported"]:
        lines.append("this Python or system is not supported: Python 3.11 to 3.13 on Linux or macOS, Windows inside WSL2")
    return "\n".join(lines)
