"""Which blocks of a stage may begin, because all that they read of earlier stages is there; which never will, because some of it failed.

Looked at page by page, in order, and only where the earlier stage has settled something among the blocks that a page needs; a page is
considered once the earlier stage has come as far as the first block that it needs. A page is claimed when the first of its blocks may
begin. Of a page that waits 4 kB are kept. Everything follows from the books, so a crash loses nothing: it is found anew.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from blockwise.books import Books, Packed
from blockwise.graph import Bools, Under
from blockwise.grid import PAGE_BLOCKS, Ids

SHARE: float = 0.1
"""Most of the driver's time that looking may take while nothing is found."""
LOOK_S: float = 0.1
"""What one look may take, beyond its last page."""
NOTHING: Ids = np.empty(0, np.int64)

Key = tuple[int, int]
"""Domain and number of a page."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a stage needs of an earlier one: blocks under what it reads, or, without `under`, the whole domain of the same name.

    domains : index of the counterpart of each domain of the stage.
    """

    books: Books
    domains: Sequence[int]
    under: Under | None = None

    def missing(self, domain: int, ids: Ids) -> Bools:
        """Which blocks of one domain must wait, (n,)."""
        other = self.domains[domain]
        if self.under is None:
            return np.full(len(ids), not self.books.closed(other))
        return self.under.any_under(domain, ids, lambda local: self.books.unsettled(other, local))

    def lost(self, domain: int, ids: Ids) -> Bools:
        """Which blocks of one domain need what will not come, (n,)."""
        other = self.domains[domain]
        if self.under is None or not self.books.has_dead(other):
            return np.full(len(ids), self.books.has_dead(other))
        return self.under.any_under(domain, ids, lambda local: self.books.dead(other, local))

    def pages(self, domain: int, ids: Ids) -> tuple[int, int]:
        """First and last page of the earlier stage that hold what these blocks need; the last is less where they need nothing."""
        if self.under is None:
            return 0, self.books.grid.pages(self.domains[domain]) - 1
        low, high = self.under.span(domain, ids)
        return low // PAGE_BLOCKS, (high - 1) // PAGE_BLOCKS


@dataclass(slots=True)
class Waiting:
    """A page some of whose blocks wait.

    spans : first and last page of each earlier stage that it needs.  looked : versions of their books at the last look.
    let_go : blocks that were let go, packed.  opened : it is this driver's.  elsewhere : another driver has it.
    """

    spans: Sequence[tuple[int, int]]
    looked: Sequence[int] = ()
    let_go: Packed = field(default_factory=lambda: np.zeros(PAGE_BLOCKS // 8, np.uint8))
    opened: bool = False
    elsewhere: bool = False


class Readiness:
    """Where the driver of a stage with needs takes its fresh blocks from; like `Books`, whose `pending` and `taken_over` it replaces."""

    def __init__(self, books: Books, needs: Sequence[Need]) -> None:
        self.books, self.needs = books, needs
        self._ahead = books.pages()
        self._next: tuple[Key, Waiting] | None = None
        self._waiting: dict[Key, Waiting] = {}
        self._seen, self._rest_until_s = -1, 0.0
        self._advance()

    def pending(self) -> Iterator[Ids]:
        """Ids that may begin, of one page at a time; none where no further ones may now. Ends when no block of this driver waits."""
        while self._next is not None or any(not page.elsewhere for page in self._waiting.values()):
            yield self._look()
        self._look()

    def taken_over(self) -> Iterator[Ids]:
        """The same, over the pages that another driver held, in case that driver has gone."""
        self._seen = -1
        for ids in self.books.taken_over():
            domain, page, _ = self.books.place(int(ids[0]))
            self._adopt(domain, page)
        yield from self.pending()

    def _adopt(self, domain: int, page: int) -> None:
        waiting = self._waiting.setdefault((domain, page), self._page(domain, page))
        waiting.opened, waiting.elsewhere, waiting.looked = True, False, ()

    def _look(self) -> Ids:
        """What has become ready since the last look, of the first page where something has; after finding nothing it rests."""
        version, began_s = sum(need.books.version for need in self.needs), time.monotonic()
        if version == self._seen or began_s < self._rest_until_s:
            return NOTHING
        for key, page in self._pages():
            if (found := self._judge(key, page)).size:
                return found
            if time.monotonic() - began_s > LOOK_S:  # the next look goes on: what was looked at has no news
                break
        else:
            self._seen = version
        self._rest_until_s = time.monotonic() + (time.monotonic() - began_s) * (1 / SHARE - 1)
        return NOTHING

    def _pages(self) -> Iterator[tuple[Key, Waiting]]:
        """The pages that wait, and further ones that have come into reach, which wait from then on."""
        yield from tuple(self._waiting.items())
        while self._next is not None and self._is_due(*self._next):
            key, page = self._next
            self._waiting[key] = page
            self._advance()
            yield key, page

    def _advance(self) -> None:
        """The page to be considered next."""
        key = next(self._ahead, None)
        self._next = None if key is None else (key, self._page(*key))

    def _page(self, domain: int, page: int) -> Waiting:
        first = int(self.books.grid.starts[domain]) + page * PAGE_BLOCKS
        ids = np.arange(first, min(first + PAGE_BLOCKS, int(self.books.grid.starts[domain + 1])))
        return Waiting([need.pages(domain, ids) for need in self.needs])

    def _is_due(self, key: Key, page: Waiting) -> bool:
        """Whether every earlier stage has come as far as the first page that this one needs."""
        needs = zip(self.needs, page.spans, strict=True)
        return all(first > last or need.books.reached(need.domains[key[0]]) >= first for need, (first, last) in needs)

    def _judge(self, key: Key, page: Waiting) -> Ids:
        """The blocks of a page that may begin now. Orphans are given up; a page is dropped when nothing of it waits."""
        if not self._has_news(key, page):
            return NOTHING
        ids = self._waiting_in(key, page)
        lost = self._any("lost", key[0], ids)
        self.books.orphan(ids[lost])
        ids = ids[~lost]
        ready = ids[~self._any("missing", key[0], ids)]
        if not page.opened and (ready.size or not ids.size):
            ready = self._open(key, page, ready)
        if page.elsewhere:
            return NOTHING
        self._let_go(key, page, ready)
        return ready

    def _has_news(self, key: Key, page: Waiting) -> bool:
        looked, page.looked = page.looked, [need.books.version for need in self.needs]
        if not looked:
            return True
        needs = zip(self.needs, page.spans, looked, strict=True)
        return any(need.books.changed(need.domains[key[0]], *span) > then for need, span, then in needs)

    def _any(self, question: Literal["lost", "missing"], domain: int, ids: Ids) -> Bools:
        """Which blocks one of the needs says this of."""
        found = np.zeros(len(ids), np.bool_)
        for need in self.needs if ids.size else ():
            found |= need.lost(domain, ids) if question == "lost" else need.missing(domain, ids)
        return found

    def _waiting_in(self, key: Key, page: Waiting) -> Ids:
        """The blocks of a page of which nothing is decided yet."""
        ids = self.books.todo(*key)
        left: Ids = ids[np.unpackbits(page.let_go)[self._positions(key, ids)] == 0]
        return left

    def _positions(self, key: Key, ids: Ids) -> Ids:
        return np.asarray(ids - (int(self.books.grid.starts[key[0]]) + key[1] * PAGE_BLOCKS), np.int64)

    def _open(self, key: Key, page: Waiting, ready: Ids) -> Ids:
        """Take a page; what of it is ready, nothing where another driver has it."""
        todo = self.books.open(*key)
        page.elsewhere = self.books.is_elsewhere(*key)
        page.opened = not page.elsewhere
        found: Ids = ready[np.isin(ready, todo)]
        return found

    def _let_go(self, key: Key, page: Waiting, ids: Ids) -> None:
        bits = np.unpackbits(page.let_go)
        bits[self._positions(key, ids)] = 1
        page.let_go = np.packbits(bits)
        if not self._waiting_in(key, page).size:
            del self._waiting[key]
