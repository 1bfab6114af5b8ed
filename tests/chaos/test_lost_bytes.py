"""Outputs and ledgers that lose bytes: flipped, cut off, emptied, deleted. What is said, and how the same bytes come back."""

import os
from pathlib import Path

import pytest

from blockwise.upkeep import verify
from tests.cluster import workers  # noqa: F401
from tests.runs import blockwise, glob_run, stamps

BLOCKS = 12
"""Of the main stage: two sessions of 6."""


@pytest.fixture
def ran(tmp_path, workers):  # noqa: F811
    """The configuration of a finished run over two recordings."""
    file = glob_run(tmp_path, workers, "ab")
    assert blockwise("run", file, "--quiet").code == 0
    return file


def chunks(file: Path) -> dict[Path, bytes]:
    return {f: f.read_bytes() for f in sorted(file.with_suffix(".zarr").rglob("c.*")) if f.parent.name == "spike_rates"}


def flip(file: Path, at: float) -> None:
    """Turn one bit over, at this part of the file."""
    data = bytearray(file.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    file.write_bytes(data)


def drop(file: Path) -> None:
    file.unlink()


def halve(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


@pytest.mark.parametrize(
    "damage",
    [lambda f: flip(f, 0.0), lambda f: flip(f, 0.5), lambda f: flip(f, 1.0), drop, halve, empty],
    ids=["first byte", "byte in the middle", "checksum", "missing", "halved", "emptied"],
)
def test_verify_finds_every_damage_and_the_next_run_heals_it(ran, damage):
    whole = chunks(ran)
    first, *_, last = whole
    damage(first)
    damage(last)
    told = blockwise("verify", ran.with_suffix(".run"))
    assert told.code == 1, told.out
    assert f"cascade: {BLOCKS} blocks, {BLOCKS} marked, {BLOCKS - 2} complete, 2 missing, 0 changed, 0 complete but not marked" in told.out
    assert f"blockwise run {ran.with_suffix('.run')}" in told.err
    healed = blockwise("run", ran, "--json")
    assert (healed.code, healed.json["blocks"]["executed"], healed.json["blocks"]["failed"]) == (0, BLOCKS + 2, 0)
    assert chunks(ran) == whole
    assert blockwise("verify", ran.with_suffix(".run")).code == 0


def test_an_output_that_is_only_away_loses_no_mark(ran):
    """A disk that is not mounted is no damage: nothing is taken back unless it is asked for."""
    ran.with_suffix(".zarr").rename(ran.parent / "away.zarr")
    told = blockwise("verify", ran.with_suffix(".run"))
    assert (told.code, "Nothing was taken back" in told.err) == (1, True)
    (ran.parent / "away.zarr").rename(ran.with_suffix(".zarr"))
    assert blockwise("verify", ran.with_suffix(".run")).code == 0


LOST = {
    "deleted": (drop, "holds nothing of the run"),
    "emptied": (empty, "holds nothing of the run"),
    "halved": (halve, "the file is damaged"),
    "cut to its first bytes": (lambda file: os.truncate(file, 100), "the file is damaged"),
    "overwritten": (lambda file: file.write_bytes(bytes(range(256)) * 64), "this is not a ledge"),
}


@pytest.mark.parametrize("how", LOST)
def test_a_lost_ledger_says_so_and_is_restored_from_the_output(ran, how):
    lose, words = LOST[how]
    run, before = ran.with_suffix(".run"), stamps(ran.with_suffix(".zarr"))
    for beside in run.glob("ledger.sqlite-*"):
        beside.unlink()
    lose(run / "ledger.sqlite")
    refused = blockwise("run", ran)
    assert refused.code == 2
    assert words in refused.err
    assert "--rebuild` " in refused.err
    assert len(refused.err.strip().splitlines()) == 1, "one sentence, no traceback"
    assert stamps(ran.with_suffix(".zarr")) == before
    assert sum(v.rebuilt for v in verify(run, rebuild=True)) == BLOCKS + 2
    again = blockwise("run", ran, "--json")
    assert (again.code, again.json["blocks"]["done"], again.json["blocks"]["executed"]) == (0, BLOCKS, 0)
    assert stamps(ran.with_suffix(".zarr")) == before
