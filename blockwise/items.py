"""Items on their way between the threads of a pipeline: some blocks of one lease, handed on together."""

import queue
from collections import deque
from collections.abc import Iterator
from typing import Any

from blockwise.work import Entry, Flight, Work

ITEM_S: float = 0.002
"""Work after which an item is handed on; a count of blocks would stall slow tasks or choke fast ones."""

Item = tuple[Work, list[Entry]]


def items(source: "queue.Queue[Item | None]", feeders: int) -> Iterator[Item]:
    """Items until every feeder said None."""
    while feeders:
        item = source.get()
        if item is None:
            feeders -= 1
        else:
            yield item


def items_or_idle(source: "queue.Queue[Item | None]", flights: "deque[Flight]") -> Iterator[Item | None]:
    """Items, or None when nothing came for a moment while writes are in flight; ends when the feeder said None."""
    while True:
        try:
            item = source.get(timeout=ITEM_S) if flights else source.get()
        except queue.Empty:
            yield None
            continue
        if item is None:
            return
        yield item


def one_each(results: Any, count: int) -> list[Any]:
    """Results as a list; their number is checked before any of them replaces an input."""
    found = list(results)
    if len(found) != count:
        raise ValueError(f"compute_batch returned {len(found)} results for {count} inputs")
    return found


def batches(entries: list[Entry], size: int) -> Iterator[list[Entry]]:
    """Runs of at most `size` entries of one input shape."""
    batch: list[Entry] = []
    for entry in entries:
        if batch and (len(batch) == size or entry.block.input_shape != batch[0].block.input_shape):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch
