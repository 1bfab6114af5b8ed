"""What happens in a run, as values; whoever shows it subscribes. Batches of blocks, never one event per block.

Emitted by the driver, from its one thread; a subscriber that raises is dropped and named in one `Message`. Texts that others wrote
(messages, errors, tracebacks, reasons) lose their secrets before any subscriber sees them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from blockwise.redaction import redact

Level = Literal["info", "warning", "error"]
State = Literal["planned", "running", "interrupted", "failed", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    at_s: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Event):
    """One sentence for a person."""

    text: str
    level: Level = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    run: str
    task: str
    folder: str
    dashboard: str
    page: str
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted(Event):
    stage: str
    main: bool
    total: int
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksDone(Event):
    """A batch of blocks was booked; times are sums over the batch, in seconds."""

    stage: str
    worker: str
    count: int
    nbytes: int
    read_s: float
    compute_s: float
    write_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFailed(Event):
    """One attempt at one block failed; `final` says it was quarantined."""

    stage: str
    domain: str
    block: int
    attempt: int
    kind: str
    worker: str
    error: str
    traceback: str
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost(Event):
    worker: str
    suspects: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFinished(Event):
    """A stage has ended; `figures` are what it found, by name."""

    stage: str
    done: int
    failed: int
    seconds: float
    orphans: int = 0
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    state: State
    exit_code: int
    done: int
    failed: int
    seconds: float
    folder: str
    output: str = ""


Subscriber = Callable[[Event], None]
AnyEvent = TypeVar("AnyEvent", bound=Event)
FREE_TEXT = ("text", "error", "traceback", "reason")
"""Fields that hold what a person or a library wrote."""


def without_secrets(event: AnyEvent) -> AnyEvent:
    """The event with its free texts redacted; the event itself where nothing is to hide."""
    texts = {name: getattr(event, name) for name in FREE_TEXT if hasattr(event, name)}
    changed: dict[str, Any] = {name: safe for name, text in texts.items() if (safe := redact(text)) != text}
    return replace(event, **changed) if changed else event


class Events:
    """Passes events on to subscribers, in the order they came."""

    def __init__(self, *subscribers: Subscriber) -> None:
        self._subscribers = list(subscribers)

    def subscribe(self, subscriber: Subscriber) -> None:
        self._subscribers.append(subscriber)

    def emit(self, event: Event) -> None:
        event = without_secrets(event)
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception as error:  # a broken progress bar must not end a run of days
                self._subscribers.remove(subscriber)
                self.emit(Message(text=f"{subscriber!r} failed and was dropped: {error!r}", level="warning"))

    def message(self, text: str, level: Level = "info") -> None:
        self.emit(Message(text=text, level=level))
