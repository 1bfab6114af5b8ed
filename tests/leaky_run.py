"""A run full of secrets, as a program of its own: `python -m tests.leaky_run FOLDER [SECTION.KEY=VALUE ...]`; none of them may come out.

They are in its environment, its command line, its configuration, and in what its blocks raise; its driver fails too where asked to.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blockwise.config import FolderConfig, InputConfig, RunConfig, overridden
from blockwise.geometry import Domain
from blockwise.grid import Block, GridSpec
from blockwise.jsonlines import JsonLines
from blockwise.run import run_task
from blockwise.testing import MapTask, ramp

TOKEN, PASSWORD, SIGNATURE, LEDGER = "tok4f9a81c6e2", "pass83bd17c4", "sig0e19c77ab5", "led55aa017293"
SECRETS = (TOKEN, PASSWORD, SIGNATURE, LEDGER)
VARIABLE = "LAB_TOKEN"
INPUT = f"https://anna:{PASSWORD}@data.lab/em.zarr"
SIGNED = f"https://bucket.cloud/mask.zarr?X-Amz-Credential={SIGNATURE}&X-Amz-Signature={SIGNATURE}"


@dataclass(frozen=True)
class Leaky:
    """A function of blocks whose failures tell all they know."""

    def __call__(self, block: Block) -> np.ndarray:
        token = os.environ[VARIABLE]
        match block.id:
            case 1:
                raise ValueError(f"cannot open {INPUT}: 403 for {SIGNED}")
            case 2:
                raise OSError(f"headers {{'Authorization': 'Bearer {token}'}} were refused ({token})")
            case 3:
                raise KeyError(SIGNED)
        return ramp(block)


class LeakyTask(MapTask):
    """Its input and mask are addresses that hold secrets."""

    def relevant_options(self) -> dict[str, str]:
        return {"mask": SIGNED, "input": INPUT}

    def fingerprint(self, domain: int) -> dict[str, str]:
        return {"input.place": INPUT}


def leaky(folder: Path) -> LeakyTask:
    return LeakyTask(str(folder / "out.zarr"), [Domain("line", ("x",), (40,))], GridSpec((1,)), Leaky())


def config_of(folder: Path, *keys: str) -> RunConfig:
    config = RunConfig(
        task="map",
        input=InputConfig(path=INPUT),
        options={"mask": SIGNED, "deep": {"urls": [INPUT]}},
        run=FolderConfig(folder=str(folder / "run"), retries=1, lease_s=0.5),
    )
    return overridden(config, [key for key in keys if key.startswith(("cluster", "ledger", "run"))])


def finds(folder: Path) -> list[str]:
    """Where a secret is in a file below a folder."""
    files = [f for f in folder.rglob("*") if f.is_file()]
    return [f"{file.name}: {secret}" for file in files for secret in SECRETS if secret.encode() in file.read_bytes()]


if __name__ == "__main__":
    os.environ[VARIABLE] = TOKEN
    where = Path(sys.argv[1])
    sys.exit(run_task(leaky(where), config_of(where, *sys.argv[2:]), subscribers=[JsonLines(sys.stderr)]).exit_code)
