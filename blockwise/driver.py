"""Streams the leases of one stage into a Dask cluster, books what comes back, and decides about failures.

One thread works for all stages of a run, see dispatch.py; Dask's threads only put messages into its inbox. Guaranteed: a block is marked
only after its data is durable (the receipt or progress message says so). When a worker dies, the blocks it had started and not finished
are run again, each alone in a process; only a death in that solitude, or a hang that the worker reported, counts as a failed attempt.
Everything else that was lost is leased again in smaller pieces, without blame.
A crash of the driver leaves written, unmarked blocks: they are computed again, to the same bytes (G2).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from blockwise.books import Books
from blockwise.config import FolderConfig
from blockwise.desk import Control, Desk
from blockwise.errors import LedgerError
from blockwise.events import BlockFailed, BlocksDone, Events, State, WorkerLost
from blockwise.failures import is_disk_full
from blockwise.grid import Ids
from blockwise.lease import BlockError, Lease, Progress, Receipt
from blockwise.leasing import Backlog, Flying, Pace, target_lease_s, tell_every_s
from blockwise.presence import SILENT_WORKER_S, Activity, ended_for_memory
from blockwise.status import SlowBlock
from blockwise.worker import StageSpec, dismiss, drain, introduce, run_lease

BREAKER_BLOCKS: int = 20
"""If the first blocks of a stage all fail with one class, the stage stops: a typo must not poison 10^8 blocks."""
BREAKER_DEATHS: int = 100
"""Leases that may die with their workers before a first block is done: a task that kills every worker must not do so for ever."""
UNSEEN_DEATHS: int = 10
"""Deaths of a solo lease that was not seen to start, before its block is blamed all the same."""
RECEIPT_S: float = 5.0
"""What fetching a receipt may take; where its worker has died since, Dask would run the whole lease again for it."""
JOB_ENDS: int = 3
"""Jobs that may end while a block is alone in their worker, before the block is blamed for being longer than a job."""
POISON_TRIES: int = 2
OOM_FRACTION: float = 0.85
SLOWEST: int = 20
UNDER_WAY: int = 4
"""Blocks per lease that the map shows as running: about what fits into a pipeline."""


class Source(Protocol):
    """Where fresh blocks come from: the books, or, where they must wait for other stages, their readiness."""

    def pending(self) -> Iterator[Ids]: ...
    def taken_over(self) -> Iterator[Ids]: ...


class StageDriver:
    """Drives one stage to its end.

    Parameters
    ----------
    cluster : an entered cluster of blockwise.cluster, with `client` and `count()`.
    desk : shared with the drivers of the other stages; its own where none is given.
    source : of fresh blocks; by default the books.
    """

    def __init__(
        self,
        cluster: Any,
        books: Books,
        spec: StageSpec,
        *,
        settings: FolderConfig,
        events: Events,
        control: Control,
        desk: Desk | None = None,
        source: Source | None = None,
    ) -> None:
        self.cluster, self.books, self.spec, self.settings, self.events, self.control = cluster, books, spec, settings, events, control
        self.desk = desk or Desk(cluster, settings, events, control)
        self._source = source or books
        self._flying: dict[int, Flying] = {}
        self._number = 0
        kept = books.ledger.get(f"k.{spec.stage}")
        self._pace = Pace(1.0, float(kept) if isinstance(kept, (int, float)) else 1.0, spec.batch_size)
        self._backlog = Backlog(self._source.pending())
        self._finished, self._dead_leases = 0, 0
        self._first_failures: dict[int, str] = {}
        self._unseen: Counter[int] = Counter()
        self.begun = False
        self.activity: dict[str, Activity] = {}
        self.slowest: list[SlowBlock] = []
        self.nbytes = 0

    @property
    def message(self) -> str:
        return self.desk.message

    def run(self) -> State:
        """Work this stage alone off, until nothing remains (done or failed), the breaker trips (failed), or a person stops it."""
        from blockwise.dispatch import Dispatch, OneStage

        return Dispatch(self.desk, OneStage(self)).run()

    @property
    def may_begin(self) -> bool:
        """Whether there is something to lease, or nothing will come any more."""
        return self._backlog.has_some

    def begin(self) -> None:
        """Tell the workers what the stage is, and listen to them."""
        self.begun = True
        self.cluster.client.subscribe_topic(self.spec.key, lambda event: self.desk.inbox.put(lambda: self._hear(event[1])))
        introduce(self.cluster.client, self.spec)

    def close(self) -> None:
        """Commit, and let the workers forget the stage."""
        self.commit()
        if self.begun:
            self.cluster.client.unsubscribe_topic(self.spec.key)
            if not self.control.stop:  # which waits for nobody
                dismiss(self.cluster.client, self.spec)

    @property
    def over(self) -> bool:
        """Whether nothing is out and nothing is left, here or with other drivers, and all of it is committed."""
        if self._flying or not self._backlog.empty or self.books.elsewhere:
            return False
        self.commit()
        return not self.books.uncommitted  # a mark that the disk had no room for is no mark

    @property
    def waits_for_others(self) -> bool:
        """Whether only pages of other drivers are left."""
        return self.books.elsewhere and not self._flying and self._backlog.empty

    def take_over(self) -> bool:
        """Look whether pages of other drivers are done or have become ours; whether some have."""
        self._backlog = Backlog(self._source.taken_over())
        return not self._backlog.empty

    def commit(self) -> None:
        """Commit what was booked; where the ledger's disk is full it stays in the books for the next commit, and leasing pauses."""
        try:
            self.books.flush()
        except LedgerError as error:
            if not is_disk_full(error):
                raise
            self.desk.pause_for_disk(str(error))

    # --- leasing -------------------------------------------------------------------------------------------------------------

    @property
    def flying(self) -> int:
        """Leases that are out."""
        return len(self._flying)

    def leases_left(self, workers: int) -> int:
        """About how many leases the blocks still make that are not done."""
        return -(-self.books.remaining // self._pace.size(self.books.remaining, workers))

    def lease(self, room: int, workers: int, *, whole: bool = False) -> int:
        """Send up to `room` leases; how many were. `whole`: none that is smaller than it should be while more blocks may come."""
        self._pace.target_s = self.settings.lease_s or target_lease_s(workers)
        sent = 0
        while sent < room and self.desk.leasing:
            size = self._pace.size(self.books.remaining, workers) if not self.desk.disk_pauses else 1
            if whole and not self._backlog.is_ripe(size, time.monotonic()):
                break
            taken = self._backlog.take(size, time.monotonic())
            if taken is None:
                break
            self._send(*taken, tell_every_s(workers))
            sent += 1
        return sent

    def _send(self, ids: Ids, solo: bool, tell_s: float) -> None:
        self._number += 1
        lease = Lease(self._number, self.spec.key, ids, solo, tell_s)
        future = self.cluster.client.submit(run_lease, lease, key=f"{self.spec.key}-{lease.number}", pure=False, retries=0)
        self._flying[lease.number] = Flying(lease, future)
        future.add_done_callback(lambda f, n=lease.number: self.cluster.client.loop.add_callback(self._fetch, n, f))

    async def _fetch(self, number: int, future: Any) -> None:
        """Bring the receipt of a finished lease, or why there is none, into the inbox; runs in the client's event loop."""
        receipt: Receipt | None = None
        error: BaseException | None = None
        try:
            receipt = await asyncio.wait_for(self.cluster.client.gather(future, asynchronous=True), RECEIPT_S)
        except (Exception, asyncio.CancelledError) as problem:
            error = problem
        self.desk.inbox.put(lambda: self._landed(number, receipt, error))

    # --- hearing ---------------------------------------------------------------------------------------------------------------

    def _hear(self, message: dict[str, Any]) -> None:
        worker = str(message.get("worker", ""))
        if "progress" in message:
            self._progressed(worker, Progress.decode(message["progress"]))
        elif "activity" in message:
            self.activity[worker] = Activity(time.monotonic(), message["activity"])
        elif "overdue" in message:
            self.desk.overdue[worker] = self.spec.key, message["overdue"]
        elif "leaving" in message:
            self.desk.hear_leaving(worker, message["leaving"])

    def _progressed(self, worker: str, progress: Progress) -> None:
        flying = self._flying.get(progress.lease)
        if flying is None:
            return
        flying.worker = worker
        flying.started.append(progress.started)
        flying.counted += len(progress.started)
        self.books.executed += len(progress.started)
        if progress.done.size:
            self._finished += self.books.book(progress.done, progress.checksums if progress.checksums.size else None)

    def _landed(self, number: int, receipt: Receipt | None, error: BaseException | None) -> None:
        flying = self._flying.pop(number)
        if receipt is not None:
            self._book(flying, receipt)
        elif flying.future.status == "error" and type(error).__name__ != "KilledWorker":
            self._backlog.give_back(flying.lease.ids)
            self.desk.break_off(f"a worker cannot run the task: {type(error).__name__}: {error}")
        elif not self.control.stop:
            self._lost(flying, f"{type(error).__name__}: {error}")
        flying.future.release()

    def _book(self, flying: Flying, receipt: Receipt) -> None:
        if not flying.lease.solo:
            self._pace.learn(receipt)
            self.books.remember(f"k.{self.spec.stage}", self._pace.k)
        self._finished += self.books.book(receipt.ids, receipt.checksums)
        self.books.executed += len(receipt.ids) + len(receipt.errors) - flying.counted
        self.nbytes += int(receipt.nbytes.sum())
        if receipt.ids.size:
            self.desk.disk_pauses = 0
            self._announce(receipt)
        for error in receipt.errors:
            self._failed(error, receipt.worker)
        self._backlog.give_back(receipt.unfinished)

    def _announce(self, receipt: Receipt) -> None:
        read_s, compute_s, write_s = (float(c.sum()) for c in (receipt.read_s, receipt.compute_s, receipt.write_s))
        count, nbytes = len(receipt.ids), int(receipt.nbytes.sum())
        self._emit_done(receipt.worker, count, nbytes=nbytes, read_s=read_s, compute_s=compute_s, write_s=write_s)
        total = receipt.read_s + receipt.compute_s + receipt.write_s
        self.desk.longest_s = max(self.desk.longest_s, float(total.max()))
        least_s = self.slowest[-1].total_s if len(self.slowest) == SLOWEST else 0.0
        for i in np.argsort(total)[-3:] if float(total.max()) > least_s else ():
            self._note_slow(int(receipt.ids[i]), (float(receipt.read_s[i]), float(receipt.compute_s[i]), float(receipt.write_s[i])))

    def _emit_done(self, worker: str, count: int, **sums: Any) -> None:
        times = {"nbytes": 0, "read_s": 0.0, "compute_s": 0.0, "write_s": 0.0, **sums}
        self.events.emit(BlocksDone(stage=self.spec.stage, worker=worker, count=count, **times))

    def _note_slow(self, id: int, times: tuple[float, float, float]) -> None:
        domain = self.books.place(id)[0]
        local = id - int(self.books.grid.starts[domain])
        slow = SlowBlock(self.spec.stage, self.books.grid.domains[domain].name, local, *times)
        self.slowest = sorted([*self.slowest, slow], key=lambda s: -(s.read_s + s.compute_s + s.write_s))[:SLOWEST]

    # --- failures --------------------------------------------------------------------------------------------------------------

    def _failed(self, error: BlockError, worker: str) -> None:
        """One failed attempt: try again when and how its kind asks, or quarantine; a full disk pauses the run instead."""
        if error.disk_full:
            self._backlog.give_back(np.array([error.id], np.int64))
            self.desk.pause_for_disk(error.error)
            return
        limit = min(POISON_TRIES, self.settings.retries + 1) if error.kind == "poison" else self.settings.retries + 1
        if not self._finished:
            self._first_failures[error.id] = error.kind
        attempt = self.books.fail(error, worker=worker, limit=limit)
        domain = self.books.grid.domains[self.books.place(error.id)[0]].name
        self.events.emit(
            BlockFailed(
                stage=self.spec.stage,
                domain=domain,
                block=attempt.block,
                attempt=attempt.attempt,
                kind=attempt.kind,
                worker=worker,
                error=attempt.error,
                traceback=attempt.traceback,
                final=attempt.final,
            )
        )
        if not attempt.final:
            wait_s = min(60.0, 2.0 ** (attempt.attempt - 1)) if error.kind in ("transient", "poison") else 0.0
            self._backlog.retry(error.id, time.monotonic() + wait_s, solo=error.kind in ("memory", "died", "timeout"))
        kinds = set(self._first_failures.values())
        if not self._finished and len(self._first_failures) >= BREAKER_BLOCKS and len(kinds) == 1:
            self.desk.break_off(f"the first {len(self._first_failures)} blocks all failed ({kinds.pop()}): {error.error}")

    def _lost(self, flying: Flying, reason: str) -> None:
        """A lease died with its worker. Its started, unfinished blocks are suspects; only solitude or a hang proves one guilty."""
        ids = flying.lease.ids[~self.books.is_done(flying.lease.ids)]
        key, hung = self.desk.overdue.get(flying.worker, (self.spec.key, None))
        suspects = np.intersect1d(ids, np.concatenate([np.empty(0, np.int64), *flying.started]) if hung is None else [hung])
        if key != self.spec.key:  # the block of another stage hung: none of these
            hung, suspects = -1, suspects[:0]
        if flying.lease.solo and not suspects.size and not self._waited(ids):
            suspects = ids
        self.events.emit(WorkerLost(worker=flying.worker or "unknown", suspects=len(suspects), reason=reason))
        if len(ids) < len(flying.lease.ids):  # booked from progress alone; their bytes and times are lost
            self._emit_done(flying.worker, len(flying.lease.ids) - len(ids))
        for id in suspects.tolist():
            if id == hung or (flying.lease.solo and not self._cut_off(id, flying.worker)):
                self._failed(self._death(id, flying.worker), flying.worker)
            else:
                self._backlog.retry(id, 0.0, solo=True)
        rest = np.setdiff1d(ids, suspects)
        if len(flying.lease.ids) == 1 and rest.size:  # it may have killed before its start was told
            self._backlog.retry(int(rest[0]), 0.0, solo=True)
        elif hung is None:
            self._backlog.give_back_apart(rest)
        else:
            self._backlog.give_back(rest)
        self._dead_leases += 1
        if not self._finished and self._dead_leases >= BREAKER_DEATHS:
            self.desk.break_off(f"{self._dead_leases} leases died with their workers and no block was finished")

    def _waited(self, ids: Ids) -> bool:
        """Whether a solo lease that was not seen to start may have been waiting behind the one that killed."""
        self._unseen.update(ids.tolist())
        return all(self._unseen[id] < UNSEEN_DEATHS for id in ids.tolist())

    def _cut_off(self, id: int, worker: str) -> bool:
        """Whether the end of a worker's job, not the block, may be at fault: a few times, for a block may be too long for any job."""
        if worker in self.desk.leaving:
            self._unseen[id] += 1
        return worker in self.desk.leaving and self._unseen[id] < JOB_ENDS

    def _death(self, id: int, worker: str) -> BlockError:
        """Why a block is guilty of its worker's death."""
        last, limit_mb = self.activity.get(worker), self.cluster.memory_limit_mb
        ended_mb = ended_for_memory(self.cluster.client, worker)
        rss_mb = ended_mb or (last.values.get("rss_mb", 0.0) if last is not None else 0.0)
        if self.desk.overdue.get(worker) == (self.spec.key, id):
            text = f"TimeoutError: no step of the block may take longer than {self.settings.block_timeout_s:g} s ([run] block_timeout_s)"
            return BlockError(id, "timeout", text, "")
        if ended_mb or (limit_mb and rss_mb > OOM_FRACTION * limit_mb):
            most = f" of {limit_mb:.0f} MB" if limit_mb else ""
            return BlockError(id, "memory", f"MemoryError: the worker died at {rss_mb:.0f} MB{most}", "")
        if worker in self.desk.leaving:
            text = f"ProcessDied: {JOB_ENDS} jobs ended while this block, alone, was in their worker: give them more [cluster] walltime"
            return BlockError(id, "died", text, "")
        return BlockError(id, "died", "ProcessDied: the worker process died while this block, alone, was in it", "")

    # --- stopping --------------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Ask the workers to give back what they have not started."""
        if self.begun:
            self.cluster.client.run(drain, self.spec.key, wait=False, on_error="ignore")

    def abandon(self) -> None:
        """Let go of the leases that are still out: their blocks will be computed again."""
        for flying in self._flying.values():
            flying.future.release()
        self._flying.clear()

    @property
    def running(self) -> int:
        """Blocks inside workers now, as the living ones told last; safe from any thread."""
        steps = ("reading", "computing", "writing")
        return int(sum(v.get(k, 0) for v in self.workers().values() for k in steps))

    def workers(self) -> dict[str, dict[str, float]]:
        """What each worker told last, without those that have gone silent; safe from any thread."""
        now_s = time.monotonic()
        return {worker: a.values for worker, a in tuple(self.activity.items()) if now_s - a.at_s < SILENT_WORKER_S}

    def under_way(self) -> list[int]:
        """The blocks started last in every lease that is out; safe from any thread."""
        started = [flying.started[-1] for flying in tuple(self._flying.values()) if flying.started]
        return [id for ids in started for id in ids[-UNDER_WAY:].tolist()]
