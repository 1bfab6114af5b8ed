"""The driver's books of one stage: which blocks remain, what has become of the others, what the next commit writes.

Guaranteed: a block counts as done once, however often it is reported (G5); `done` grows when the commit has returned, so that a crash
never takes back what a status said. Only pages with work under way are held as bits, so the memory of a driver does not grow with the
grid; of a flood of failures the tracebacks stay in the ledger.
Quarantined blocks stay out of the way until `blockwise retry`; masked blocks are counted and never marked; orphans, whose inputs will
not come, are neither computed nor marked, and are found anew at every start. Of a page that is not under way two kilobytes are kept, once
another stage has asked for it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from blockwise.grid import PAGE_BLOCKS, Grid, Ids
from blockwise.lease import BlockError
from blockwise.ledger.contract import Attempt, Bits, Booking, Ledger, Marks, PageKey
from blockwise.status import MAP_CELLS

Mask = Callable[[Ids], npt.NDArray[np.bool_]]
Packed = npt.NDArray[np.uint8]
"""Bits of a page, eight to a byte."""

CHECKSUM_BLOCKS: int = 10_000_000
"""Most blocks of a stage for which checksums are kept: 4 bytes each."""
TRACEBACKS: int = 1_000
"""Quarantined blocks whose traceback is held in memory."""


@dataclass(slots=True)
class Page:
    """A page with work under way: done bits, bits of what needs no work (masked, quarantined), bits of checksums put down."""

    done: Bits
    settled: Bits
    size: int
    summed: Bits = field(default_factory=lambda: np.zeros(PAGE_BLOCKS, np.bool_))

    @property
    def complete(self) -> bool:
        return bool((self.done | self.settled)[: self.size].all())


@dataclass(slots=True)
class Books:
    """One stage's account over all its domains; ids are the grid's."""

    stage: str
    grid: Grid
    ledger: Ledger
    driver: str = ""
    masks: Sequence[Mask | None] = ()
    done: int = 0
    masked: int = 0
    orphans: int = 0
    executed: int = 0
    version: int = 0
    """Grows whenever a block is settled."""
    quarantined: dict[int, Attempt] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    cells: npt.NDArray[np.int64] = field(init=False)
    _digests: tuple[str, ...] = field(init=False)
    _pages: dict[tuple[int, int], Page] = field(default_factory=dict)
    _marks: list[Marks] = field(default_factory=list)
    _attempts: list[Attempt] = field(default_factory=list)
    _values: dict[str, object] = field(default_factory=dict)
    _elsewhere: dict[tuple[int, int], Bits] = field(default_factory=dict)
    _closed: list[Bits] = field(init=False)
    """Per domain which pages hold nothing that is still to be done."""
    _stamps: list[Ids] = field(init=False)
    """Per domain and page the version at which it was changed last."""
    _reached: list[int] = field(init=False)
    _dead: dict[tuple[int, int], Packed] = field(default_factory=dict)
    """Quarantined and orphaned blocks."""
    _glimpsed: dict[tuple[int, int], Packed] = field(default_factory=dict)
    """What needs no work in pages that were looked at and are not under way."""
    _booked: int = 0
    _seen: dict[tuple[int, int], Packed] = field(default_factory=dict)
    """Packed bits of each page as they were counted at the start, where another driver may add some before the page is opened."""

    def __post_init__(self) -> None:
        self.cells = np.zeros(min(MAP_CELLS, len(self.grid)), np.int64)
        self._digests = tuple(d.digest for d in self.grid.domains)
        pages = [self.grid.pages(i) for i in range(len(self.grid.domains))]
        self._reached = [-1] * len(pages)
        self._closed, self._stamps = [np.zeros(n, np.bool_) for n in pages], [np.zeros(n, np.int64) for n in pages]
        self.masks = self.masks or (None,) * len(self.grid.domains)
        executed = self.ledger.get(f"executed.{self.stage}")
        self.executed = executed if isinstance(executed, int) else 0
        self._load_attempts()
        for index, domain in enumerate(self.grid.domains):
            for page, bits in self.ledger.pages(self.stage, domain.digest):
                self._count(index, page, bits)
                if self.ledger.shared:
                    self._seen[index, page] = np.packbits(bits)

    def _load_attempts(self) -> None:
        owners = {d.digest: i for i, d in enumerate(self.grid.domains)}
        for attempt in self.ledger.attempts(self.stage):
            if attempt.domain in owners:
                self._remember(int(self.grid.starts[owners[attempt.domain]]) + attempt.block, attempt)

    def _remember(self, id: int, attempt: Attempt) -> None:
        self.tries[id] = max(attempt.attempt, self.tries.get(id, 0))
        if attempt.final:
            if id not in self.quarantined:
                domain, page, position = self.place(id)
                self._bury(domain, page, np.array([position]))
            self.quarantined[id] = attempt if len(self.quarantined) < TRACEBACKS else replace(attempt, traceback="")

    def _bury(self, domain: int, page: int, positions: Ids) -> None:
        """Note blocks of a page that will not be computed."""
        bits = self._dead_bits(domain, page)
        bits[positions] = True
        self._dead[domain, page] = np.packbits(bits)
        if held := self._pages.get((domain, page)):
            held.settled[positions] = True
        self._touch(domain, page)

    def _dead_bits(self, domain: int, page: int) -> Bits:
        packed = self._dead.get((domain, page))
        return np.zeros(PAGE_BLOCKS, np.bool_) if packed is None else np.unpackbits(packed).astype(np.bool_)

    def _touch(self, domain: int, page: int) -> None:
        """Something of a page was settled; where nothing is left of one under way, it is let go."""
        self.version += 1
        self._stamps[domain][page] = self.version
        self._reached[domain] = max(self._reached[domain], page)
        held = self._pages.get((domain, page))
        if held is not None and held.complete:
            self._close(domain, page)

    def _close(self, domain: int, page: int) -> None:
        self._closed[domain][page] = True
        self._pages.pop((domain, page), None)
        self._glimpsed.pop((domain, page), None)

    def _count(self, domain: int, page: int, bits: Bits) -> None:
        """Add blocks that the ledger holds as done."""
        local = np.flatnonzero(bits)
        self.done += local.size
        self._reached[domain] = max(self._reached[domain], page)
        self._shade(local + (int(self.grid.starts[domain]) + page * PAGE_BLOCKS))

    def _shade(self, ids: Ids) -> None:
        if ids.size:
            self.cells += np.bincount(ids * len(self.cells) // len(self.grid), minlength=len(self.cells))

    # --- what remains --------------------------------------------------------------------------------------------------------

    @property
    def remaining(self) -> int:
        """Blocks neither done, masked (as far as pages were opened), quarantined nor orphaned."""
        return len(self.grid) - self.done - self._booked - self.masked - len(self.quarantined) - self.orphans

    @property
    def failed(self) -> bool:
        """Whether some blocks will not be done before a `retry`."""
        return bool(self.quarantined or self.orphans)

    def pending(self) -> Iterator[Ids]:
        """Ids of the blocks to compute, a page at a time, in order; pages that another driver holds are left out."""
        for domain, page in self.pages():
            ids = self.open(domain, page)
            if ids.size:
                yield ids

    def pages(self) -> Iterator[tuple[int, int]]:
        """Domain and number of every page, in order."""
        return ((domain, page) for domain in range(len(self.grid.domains)) for page in range(self.grid.pages(domain)))

    def taken_over(self) -> Iterator[Ids]:
        """Like `pending`, over the pages another driver held when `pending` came by, in case that driver has gone."""
        elsewhere, self._elsewhere = self._elsewhere, {}
        self._load_attempts()
        for (domain, page), known in elsewhere.items():
            ids = self.open(domain, page, known)
            if ids.size:
                yield ids

    @property
    def elsewhere(self) -> bool:
        """Whether pages are held by other drivers."""
        return bool(self._elsewhere)

    def is_elsewhere(self, domain: int, page: int) -> bool:
        """Whether a page was held by another driver when it was last asked for."""
        return (domain, page) in self._elsewhere

    def refresh(self) -> None:
        """Read again what other drivers have done in the pages they hold."""
        self._load_attempts()
        for (domain, page), known in tuple(self._elsewhere.items()):
            self._count_others(domain, page, self.ledger.page(self._key(domain, page)), known)

    def _key(self, domain: int, page: int) -> PageKey:
        return PageKey(self.stage, self._digests[domain], page)

    def open(self, domain: int, page: int, known: Bits | None = None) -> Ids:
        """Take a page and return its ids to compute; `known`: the done bits that were counted when another driver held it."""
        first, size = self._extent(domain, page)
        done = self.ledger.page(self._key(domain, page))
        if self.ledger.shared:
            known = self._elsewhere.get((domain, page)) if known is None else known
            packed = self._seen.pop((domain, page), None)
            known = np.unpackbits(packed).astype(np.bool_) if packed is not None else np.zeros_like(done) if known is None else known
            self._count_others(domain, page, done, known)
        masked = self._masked(domain, page, size) & ~done
        settled = masked | self._dead_bits(domain, page)
        todo = np.flatnonzero(~(done | settled)[:size])
        if todo.size and not self.ledger.claim(self._key(domain, page), self.driver):
            self._elsewhere[domain, page] = done
            return np.empty(0, np.int64)
        self._elsewhere.pop((domain, page), None)
        self.masked += 0 if (domain, page) in self._pages or self._closed[domain][page] else int(masked.sum())
        if todo.size:
            self._pages[domain, page] = Page(done, settled, size)
            self._glimpsed.pop((domain, page), None)
        else:
            self._close(domain, page)
        self._touch(domain, page)
        return todo + first

    def _extent(self, domain: int, page: int) -> tuple[int, int]:
        """First id of a page, and how many blocks it holds."""
        first = int(self.grid.starts[domain]) + page * PAGE_BLOCKS
        return first, min(PAGE_BLOCKS, int(self.grid.starts[domain + 1]) - first)

    def _count_others(self, domain: int, page: int, done: Bits, known: Bits) -> None:
        """Count what another driver has done in a page since we knew it."""
        new = done & ~known
        if new.any():
            self._count(domain, page, new)
            if (domain, page) in self._elsewhere:
                self._elsewhere[domain, page] = done
            self._touch(domain, page)

    def _masked(self, domain: int, page: int, size: int) -> Bits:
        bits, mask = np.zeros(PAGE_BLOCKS, np.bool_), self.masks[domain]
        if mask is not None:
            bits[:size] = ~mask(np.arange(page * PAGE_BLOCKS, page * PAGE_BLOCKS + size))
        return bits

    # --- what other stages ask ---------------------------------------------------------------------------------------------------

    def unsettled(self, domain: int, local: Ids) -> npt.NDArray[np.bool_]:
        """Which blocks are still to be done, by ids that count from their domain's first, in any shape."""
        return self._gather(domain, local, lambda page: ~self._settled(domain, page))

    def dead(self, domain: int, local: Ids) -> npt.NDArray[np.bool_]:
        """Which blocks will not be done: quarantined or orphaned."""
        return self._gather(domain, local, lambda page: self._dead_bits(domain, page))

    def _gather(self, domain: int, local: Ids, bits_of: Callable[[int], Bits]) -> npt.NDArray[np.bool_]:
        pages, positions = np.divmod(local, PAGE_BLOCKS)
        first = int(pages.min())
        wanted = np.flatnonzero(np.bincount((pages - first).ravel()))
        rows = np.zeros(int(pages.max()) - first + 1, np.int64)
        rows[wanted] = np.arange(len(wanted))
        found: npt.NDArray[np.bool_] = np.stack([bits_of(first + int(page)) for page in wanted])[rows[pages - first], positions]
        return found

    def _settled(self, domain: int, page: int) -> Bits:
        """Which blocks of a page need no work, as far as this driver knows."""
        if held := self._pages.get((domain, page)):
            return held.done | held.settled
        if self._closed[domain][page]:
            return np.ones(PAGE_BLOCKS, np.bool_)
        if (domain, page) in self._elsewhere:
            done = self._elsewhere[domain, page]
            return done | self._masked(domain, page, self._extent(domain, page)[1]) | self._dead_bits(domain, page)
        if (domain, page) not in self._glimpsed:
            done = self.ledger.page(self._key(domain, page))
            self._glimpsed[domain, page] = np.packbits(done | self._masked(domain, page, self._extent(domain, page)[1]))
        return np.unpackbits(self._glimpsed[domain, page]).astype(np.bool_) | self._dead_bits(domain, page)

    def todo(self, domain: int, page: int) -> Ids:
        """Ids of a page that are neither done nor settled, whether it is under way or not."""
        first, size = self._extent(domain, page)
        return np.flatnonzero(~self._settled(domain, page)[:size]) + first

    def changed(self, domain: int, first: int, last: int) -> int:
        """The version at which something was settled last in these pages of a domain, `last` included."""
        return int(self._stamps[domain][first : last + 1].max(initial=0))

    def reached(self, domain: int) -> int:
        """The last page of a domain in which something is settled, -1 where there is none."""
        return self._reached[domain]

    def closed(self, domain: int) -> bool:
        """Whether nothing of a domain is left to do."""
        return bool(self._closed[domain].all())

    def has_dead(self, domain: int) -> bool:
        """Whether a domain holds quarantined or orphaned blocks."""
        return any(d == domain for d, _ in self._dead)

    def orphan(self, ids: Ids) -> None:
        """Give blocks up, all of one page and not settled: what they read will not come."""
        if ids.size:
            domain, page, _ = self.place(int(ids[0]))
            self.orphans += len(ids)
            self._bury(domain, page, ids - self._extent(domain, page)[0])

    # --- what happened -------------------------------------------------------------------------------------------------------

    def book(self, ids: Ids, checksums: npt.NDArray[np.uint32] | None = None) -> int:
        """Put durable blocks down for the next commit; how many of them were new.

        Parameters
        ----------
        ids : sorted. checksums : one per id, or None where they come later.
        """
        if not len(ids):
            return 0
        if len(self.grid) > CHECKSUM_BLOCKS:
            checksums = None
        first, last = self.place(int(ids[0]))[:2], self.place(int(ids[-1]))[:2]
        if first == last:
            return self._book_page(*first, ids, checksums)
        new = 0
        owner = np.searchsorted(self.grid.starts, ids, side="right") - 1
        page = (ids - self.grid.starts[owner]) // PAGE_BLOCKS
        cuts = np.flatnonzero(np.diff(owner) | np.diff(page)) + 1
        for part in np.split(np.arange(len(ids)), cuts):
            sums = checksums[part] if checksums is not None else None
            new += self._book_page(int(owner[part[0]]), int(page[part[0]]), ids[part], sums)
        return new

    def _book_page(self, domain: int, number: int, ids: Ids, checksums: npt.NDArray[np.uint32] | None) -> int:
        positions = ids - (int(self.grid.starts[domain]) + number * PAGE_BLOCKS)
        page = self._pages.get((domain, number))
        fresh = ~page.done[positions] if page else np.zeros(len(ids), np.bool_)
        new = int(np.count_nonzero(fresh))
        write = fresh if checksums is None else fresh | (~page.summed[positions] if page else True)
        if page is not None:
            page.done[positions] = True
            page.summed[positions] |= checksums is not None
            if new:
                self._touch(domain, number)
        if np.count_nonzero(write):
            self._marks.append(Marks(self._key(domain, number), positions[write], None if checksums is None else checksums[write]))
        self._shade(ids[fresh])
        self._booked += new
        return new

    def is_done(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Which of these blocks, all of pages under way, are booked."""
        return np.array([self._bit(int(id)) for id in ids], np.bool_)

    def _bit(self, id: int) -> bool:
        domain, page, position = self.place(id)
        held = self._pages.get((domain, page))
        return held is None or bool(held.done[position])

    def place(self, id: int) -> tuple[int, int, int]:
        """Domain index, page and position in the page of a block."""
        domain = int(np.searchsorted(self.grid.starts, id, side="right")) - 1
        page, position = divmod(id - int(self.grid.starts[domain]), PAGE_BLOCKS)
        return domain, page, position

    def fail(self, error: BlockError, *, worker: str, limit: int) -> Attempt:
        """Put one failed attempt down; it is final, and the block quarantined, once `limit` attempts have failed."""
        domain, page, position = self.place(error.id)
        number = self.tries.get(error.id, 0) + 1
        attempt = Attempt(
            stage=self.stage,
            domain=self.grid.domains[domain].digest,
            block=page * PAGE_BLOCKS + position,
            attempt=number,
            kind=error.kind,
            worker=worker,
            error=error.error,
            traceback=error.traceback,
            at_s=time.time(),
            final=number >= limit,
        )
        self._remember(error.id, attempt)
        self._attempts.append(attempt)
        return attempt

    def remember(self, name: str, value: object) -> None:
        """Store a value with the next commit."""
        self._values[name] = value

    @property
    def uncommitted(self) -> bool:
        """Whether something was put down that no commit has written yet."""
        return bool(self._marks or self._attempts)

    def flush(self) -> None:
        """One durable commit of everything put down since the last."""
        if self._marks or self._attempts or self._values:
            self._values[f"executed.{self.stage}"] = self.executed
            self.ledger.commit(Booking(tuple(self._marks), tuple(self._attempts), self._values))
            self._marks, self._attempts, self._values = [], [], {}
            self.done, self._booked = self.done + self._booked, 0
