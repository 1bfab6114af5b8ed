"""What is done to a run folder when no driver works on it: read its state, check outputs against the ledger, rebuild, report, clean.

`status` only reads status.json and works on another machine and while the driver is dead. `verify` reads outputs and ledger, and
takes back the marks of what is not there; with `rebuild` it marks what is complete, too, and refuses while a driver lives.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blockwise.chain import placed
from blockwise.claim import STARTED, claim_of
from blockwise.cluster.leftovers import jobs_folder, sweep
from blockwise.config import RunConfig, load_config, overridden, refuse_data
from blockwise.errors import BlockwiseError, PlanRefused
from blockwise.events import State
from blockwise.fingerprint import check, fingerprint
from blockwise.folder import RunFolder
from blockwise.grid import PAGE_BLOCKS, Block, Grid
from blockwise.heartbeat import SILENCE_S, drop_dead, is_local, process_lives, refuse_second
from blockwise.ledger import Ledger, is_lost, open_ledger, set_aside
from blockwise.ledger.contract import Booking, Marks, PageKey
from blockwise.ledger.server_url import refuse_shown_password
from blockwise.run import load_task
from blockwise.status import SlowBlock, Status
from blockwise.storage import checksum, sweep_locks
from blockwise.task import Picture, Task


def status(path: str | Path, wait: Callable[[float], object] = time.sleep) -> Status:
    """The state of a run, from its folder alone; a run whose driver died is `interrupted`.

    Raises
    ------
    MissingError : no run folder at `path`.
    """
    folder = RunFolder.find(path)
    found = folder.read_status()
    if found.state != "running" or _driver_lives(folder, found, wait):
        return found
    halted: dict[State, State] = {"running": "interrupted"}
    stages = tuple(replace(s, state=halted.get(s.state, s.state), blocks=replace(s.blocks, running=0)) for s in found.stages)
    still = replace(found, workers=(), dashboard="", page="", eta_s=None, blocks_per_s=0.0, bytes_per_s=0.0)
    message = "the driver is gone; run again to go on"
    if _is_elsewhere(folder, found):
        message = f"the driver of {found.folder} is gone, or this is a copy of that folder, made while it ran"
    return replace(still, state="interrupted", message=message, stages=stages, blocks=replace(found.blocks, running=0))


def _driver_lives(folder: RunFolder, found: Status, wait: Callable[[float], object]) -> bool:
    """Here: whether its process runs. Elsewhere, and in a copy: whether its counter moves within SILENCE_S of our clock."""
    driver = found.driver
    if driver is not None and is_local(driver) and not (process_lives(driver) and _is_elsewhere(folder, found)):
        return process_lives(driver)
    deadline_s = time.monotonic() + SILENCE_S
    while time.monotonic() < deadline_s:
        wait(0.25)
        if folder.read_status().beat != found.beat:
            return True
    return False


def _is_elsewhere(folder: RunFolder, found: Status) -> bool:
    """Whether the driver calls its folder otherwise: it is mounted under another name here, or this is a copy."""
    return bool(found.folder) and Path(found.folder).resolve() != folder.path.resolve()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found of one stage, in blocks. `missing`: marked, but not stored. `changed`: stored with another checksum.
    `rebuilt`: marks that were taken back or set."""

    stage: str
    total: int
    marked: int
    checked: int
    missing: int
    changed: int
    unmarked: int
    rebuilt: int


def verify(path: str | Path, *, rebuild: bool = False) -> list[Verdict]:
    """Hold the outputs of a run against its ledger, block by block, and take the marks of missing and changed ones back.

    Nothing is taken back while a driver lives, nor where the output is gone or of another run: it may only be mounted elsewhere.

    Parameters
    ----------
    rebuild : mark blocks whose data is complete, too, and take marks back although the whole output is gone. A ledger that is damaged
        is set aside for a new one. Domains that joined the set since the run was last started are left to the next start.

    Raises
    ------
    MissingError : no run there.  RunActive : a driver lives and `rebuild` would write.  PlanRefused : the output is another run's.
    """
    folder = RunFolder.find(path)
    config = folder.load_config()
    task = load_task(config)
    url = config.ledger.url or folder.ledger
    if rebuild and is_lost(url):
        refuse_second(str(path), [d for d in (status(path).driver,) if d is not None and status(path).state == "running"])
        set_aside(url)
    ledger = open_ledger(url, folder.run)
    try:
        living = drop_dead(ledger)
        if rebuild:
            refuse_second(str(path), living)
            ledger.commit(Booking(values={STARTED: folder.run}))
        names = _claimed(task, folder) if rebuild else frozenset() if living else _still_claimed(task, folder)
        return [_verify_stage(stage, ledger, names, rebuild) for stage in task.stages()]
    finally:
        ledger.close()


Names = frozenset[str]


def _claimed(task: Task, folder: RunFolder) -> Names:
    """The domains, as stage/domain, whose marks may be rebuilt: those the output was claimed for, under today's fingerprints.

    An output that is gone may be rebuilt from too: all marks are taken back.
    """
    path = task.output_path()
    domains = {f"{s.name}/{d.name}": (s, i) for s in task.stages() for i, d in enumerate(s.domains())}
    prints = {name: fingerprint(*domain) for name, domain in domains.items()}
    if path is None or not Path(path).exists():
        return frozenset(prints)
    claim = claim_of(path)
    if claim.get("run") != folder.run:
        raise PlanRefused(
            f"{path} was made by run {claim.get('run')} in {claim.get('folder')}, not by {folder.run}: nothing can be rebuilt from it; "
            "name the run folder that belongs to it, or set [output] path in the configuration and run again"
        )
    then: dict[str, dict[str, str]] = claim.get("fingerprint", {})
    for name, now in prints.items():
        if name in then:
            stage, index = domains[name]
            check(f"{path}, {name}", then[name], now, places=stage.places(index))
    return frozenset(prints.keys() & then.keys())


def _still_claimed(task: Task, folder: RunFolder) -> Names:
    """Like `_claimed`; none where the output is gone, of another run, or made under other fingerprints."""
    path = task.output_path()
    try:
        return _claimed(task, folder) if path is not None and Path(path).exists() else frozenset()
    except PlanRefused:
        return frozenset()


def _verify_stage(stage: Task, ledger: Ledger, claimed: Names, rebuild: bool) -> Verdict:
    grid = Grid(stage.domains(), stage.spec())
    sums = dict.fromkeys(("marked", "checked", "missing", "changed", "unmarked", "rebuilt"), 0)
    for index, domain in enumerate(grid.domains):
        mends: tuple[str, ...] = ()
        if f"{stage.name}/{domain.name}" in claimed:
            mends = ("wrong", "right") if rebuild else ("wrong",)
        if rebuild and mends:
            ledger.set_fingerprint(stage.name, domain.digest, fingerprint(stage, index))
        for page in range(grid.pages(index)):
            _verify_page(stage, grid, ledger, index, page, sums, mends)
    return Verdict(stage=stage.name, total=len(grid), **sums)


def _verify_page(stage: Task, grid: Grid, ledger: Ledger, index: int, page: int, sums: dict[str, int], mends: tuple[str, ...]) -> None:
    key = PageKey(stage.name, grid.domains[index].digest, page)
    first = int(grid.starts[index]) + page * PAGE_BLOCKS
    size = min(PAGE_BLOCKS, int(grid.starts[index + 1]) - first)
    done, known = ledger.page(key)[:size], ledger.checksums(key)
    found = [_stored(stage, block) for block in grid.blocks(np.arange(first, first + size))]
    there = np.array([c is not None for c in found])
    crcs = np.array([c or 0 for c in found], np.uint32)
    changed = done & there & (crcs != known[:size]) & (known[:size] != 0) if known is not None else np.zeros(size, bool)
    counts = {"marked": done, "checked": there, "missing": done & ~there, "changed": changed, "unmarked": ~done & there}
    for name, bits in counts.items():
        sums[name] += int(bits.sum())
    wrong, right = np.flatnonzero((done & ~there) | changed), np.flatnonzero(~done & there)
    if wrong.size and "wrong" in mends:
        ledger.unmark(Marks(key, wrong))
        ledger.commit(Booking(values={"finished": None}))
        sums["rebuilt"] += int(wrong.size)
    if right.size and "right" in mends:
        ledger.commit(Booking(marks=(Marks(key, right, crcs[right]),)))
        sums["rebuilt"] += int(right.size)


def _stored(stage: Task, block: Block) -> int | None:
    """Checksum of what is stored for a block; None where it is missing or cannot be read."""
    try:
        arrays = stage.stored(block)
    except OSError:
        return None
    return None if arrays is None else checksum(arrays)


def report(path: str | Path, target: str | Path | None = None) -> Path:
    """Write the HTML report of a run; into its folder unless a target is given."""
    from blockwise.monitor.report import write_report

    folder = RunFolder.find(path)
    config = folder.load_config()
    found = status(path)
    ledger = open_ledger(config.ledger.url or folder.ledger, folder.run)
    try:
        slowest = [SlowBlock(**s) for stage in found.stages for s in _rows(ledger.get(f"slowest.{stage.name}"))]
        results = [(s.name, ledger.get(f"figures.{s.name}"), ledger.get(f"warnings.{s.name}")) for s in found.stages]
    finally:
        ledger.close()
    pictures, missing = _pictures(config) if found.state == "done" else ((), "")
    file = Path(target) if target else folder.path / "report.html"
    starts = folder.starts()
    write_report(
        file,
        status=found,
        config_text=(folder.path / "config.toml").read_text(),
        history=folder.history(),
        results=[(name, _figures(figures), list(map(str, _rows(said)))) for name, figures, said in results],
        slowest=sorted(slowest, key=lambda s: -s.total_s)[:20],
        pictures=pictures,
        provenance=_provenance(starts) | ({"no pictures": missing} if missing else {}),
    )
    return file


def _pictures(config: RunConfig) -> tuple[Sequence[Picture], str]:
    """Pictures of inputs and outputs, or why there are none: what a run read may have been moved since."""
    try:
        return load_task(config).pictures(), ""
    except BlockwiseError as error:
        return (), str(error)


def _rows(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _figures(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _provenance(starts: list[dict[str, object]]) -> dict[str, str]:
    """The last start's versions and every adopted difference."""
    last = starts[-1] if starts else {}
    versions = last.get("versions")
    found = {"starts": str(len(starts)), "host": str(last.get("host", "")), "python": str(last.get("python", ""))}
    found |= {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}
    return found | {f"adopted at start {i + 1}": str(s["adopted"]) for i, s in enumerate(starts) if s.get("adopted")}


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What `clean` removed. `folder` and `output`: whether they are gone; a run folder that holds other files stays, with those.
    `jobs`: how many of the run's jobs were cancelled."""

    leftovers: int
    folder: bool
    output: bool
    jobs: int = 0


def clean(path: str | Path, *, everything: bool = False) -> Cleaned:
    """Sweep what killed writers left in the output, cancel jobs and delete certificates that a killed driver left.

    With `everything` delete the output and the run's files in its folder too.

    Exports beside the output, and the marks of a run whose ledger is on a server, stay.

    Raises
    ------
    RunActive : a driver lives.  MissingError : no run there.  JobError : SLURM does not answer, and jobs may be left.
    """
    folder = RunFolder.find(path)
    config = folder.load_config()
    ledger = open_ledger(config.ledger.url or folder.ledger, folder.run)
    try:
        refuse_second(str(path), drop_dead(ledger))
    finally:
        ledger.close()
    cancelled = sweep(folder.run, folder.path) if jobs_folder(folder.path).exists() else 0
    output = own_output(path)
    leftovers = sweep_locks(output, older_s=0) if output else 0
    if everything:
        if output:
            shutil.rmtree(output)
        shutil.rmtree(jobs_folder(folder.path), ignore_errors=True)
        folder.remove()
    return Cleaned(leftovers, not folder.path.exists(), everything and output is not None, cancelled)


def own_output(path: str | Path) -> str | None:
    """The output of the run in a folder, if it exists and this run made it.

    Raises
    ------
    MissingError : no run there.
    """
    folder = RunFolder.find(path)
    output = folder.load_config().output.path
    return output if output is not None and claim_of(output).get("run") == folder.run else None


def config_of(path: str | Path) -> RunConfig:
    """The configuration that a run folder was last started with; the folder itself where it lies now.

    Raises
    ------
    MissingError : no run there.
    """
    config = RunFolder.find(path).load_config()
    return config.model_copy(update={"run": config.run.model_copy(update={"folder": str(path)})})


def configured(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in a file, or the one that a run folder was last started with, with overrides and absolute paths.

    Raises
    ------
    ConfigError, MissingError
    """
    refuse_shown_password(overrides)
    if path.is_dir():
        refuse_data(path)
    config = overridden(config_of(path), overrides) if path.is_dir() else load_config(path, overrides)
    return placed(config, path)
