"""The folder of a training run: what it was asked for, checkpoints, figures, snapshots.

    parameter.json                  the parameters, as resolved at the first start
    train_net_checkpoint_N.pt       network, optimiser and iteration after N iterations; `load_network` reads it
    metrics.jsonl                   a line of losses every `log_every` iterations
    validation.jsonl                a line of scores at each validation
    snapshots/snapshot_N.hdf        a batch with targets, predictions and gradients
    events/                         the same figures for TensorBoard, unless `tensorboard` is false

One process trains in a folder at a time, held by a lock that ends with it. Checkpoints and snapshots are replaced whole: a crash leaves
the last complete one. What a resumed run writes again, lines of figures and snapshots, is dropped first; so is what a kill left half
written, once it is a minute old.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from blockwise.errors import FingerprintMismatch, MissingError, ModelError, RunActive
from blockwise.storage import make_folders, write_atomic
from tasks.synful.training.parameters import TrainingParameters

FREE = frozenset(
    {
        *("max_iteration", "save_every", "log_every", "snapshot_every", "keep_snapshots", "validation", "tensorboard"),
        *("workers", "prefetch", "device", "threads", "folder"),
    }
)
"""Keys that may change between starts of one run: they do not change what is learned from which batch."""


@dataclass(frozen=True)
class TrainingFolder:
    """One run's folder."""

    path: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while training in it.

        Raises
        ------
        RunActive : another process does.
        """
        import fcntl

        make_folders(self.path)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunActive(f"{self.path}: another process trains in this folder; wait for it, or set another `folder`") from None
            yield

    def adopt(self, parameters: TrainingParameters, differing: Sequence[str] = ()) -> None:
        """Write the parameters of a run, after a check that they are those of the run that is there, but for keys that may differ.

        Raises
        ------
        FingerprintMismatch : a key differs that decides what is learned; names it and both values.
        """
        file, wanted = self.path / "parameter.json", parameters.model_dump(mode="json")
        if file.exists() and self.checkpoints():
            kept = json.loads(file.read_text())
            if changed := [k for k in wanted if k not in FREE and k not in differing and k in kept and wanted[k] != kept[k]]:
                said = "; ".join(f"{k} was {json.dumps(kept[k])}, is {json.dumps(wanted[k])}" for k in changed)
                raise FingerprintMismatch(
                    f"{self.path} holds another training: {said}. Set another `folder`, set the keys back, or go on all the same with "
                    f"{' '.join(f'--adopt {k}' for k in changed)}"
                )
        write_atomic(file, json.dumps(wanted, indent=1).encode())

    def checkpoints(self) -> dict[int, Path]:
        """Checkpoints by iteration, ascending."""
        found = {int(m[1]): f for f in self.path.glob("*.pt") if (m := re.fullmatch(r"train_net_checkpoint_(\d+)\.pt", f.name))}
        return dict(sorted(found.items()))

    def save(self, iteration: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, whole or not at all."""
        import torch

        buffer = BytesIO()
        torch.save(dict(state), buffer)
        file = self.path / f"train_net_checkpoint_{iteration}.pt"
        write_atomic(file, buffer.getvalue())
        return file

    def load(self, iteration: int) -> dict[str, Any]:
        """What `save` wrote, on the CPU.

        Raises
        ------
        ModelError : it cannot be read.
        """
        import torch

        file = self.checkpoints()[iteration]
        try:
            return dict(torch.load(file, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises classes of its own for damaged files
            raise ModelError(f"{file} cannot be read ({error}): remove it to go on from the checkpoint before") from error

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Add a line to a .jsonl file."""
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(line)) + "\n")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a .jsonl file; a torn last one is left out."""
        file = self.path / name
        found = []
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def rewind(self, iteration: int) -> None:
        """Drop figures and snapshots of iterations that will be done again."""
        for number, snapshot in self.snapshots().items():
            if number >= iteration:
                snapshot.unlink()
        for name in ("metrics.jsonl", "validation.jsonl"):
            if (self.path / name).exists():
                kept = [line for line in self.lines(name) if line["iteration"] <= iteration]
                write_atomic(self.path / name, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def snapshots(self) -> dict[int, Path]:
        """Snapshots by iteration, ascending."""
        files = (self.path / "snapshots").glob("snapshot_*.hdf")
        return dict(sorted((int(f.stem.rpartition("_")[2]), f) for f in files))

    def snapshot(self, which: int) -> Path:
        """A snapshot by its iteration, or counted from the last as -1, -2, ...

        Raises
        ------
        MissingError : there is none; names those that are there.
        """
        found = self.snapshots()
        files = list(found.values())
        if which in found:
            return found[which]
        if which < 0 and -which <= len(files):
            return files[which]
        there = ", ".join(map(str, found)) or "none: set `snapshot_every`"
        raise MissingError(f"{self.path}: no snapshot {which}; iterations with one: {there}")
