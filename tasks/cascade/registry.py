"""The Cascade models known by name: the published ones, those of a newer list the user read, and those that come with this package.

Names state what a model is for: `<cells or indicator>_<rate>Hz_smoothing<ms>ms[_causalkernel][_high_noise]`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from pathlib import Path

from blockwise.errors import ConfigError
from blockwise.models import Entry, Registry, Suggestion, read_list, updated_list
from tasks.cascade.model import LARGEST_RATE_ERROR, load_model

TASK = "cascade"

_HERE = Path(__file__).parent
_NAME = re.compile(r"(?P<family>.+?)_(?P<rate>\d+(?:\.\d+)?)Hz_smoothing(?P<ms>\d+(?:\.\d+)?)ms(?P<rest>.*)")
_TRAINED_WITH = ("ogb1", "cal520", "gcamp6f", "gcamp6s", "gcamp5k", "rcamp107", "rcamp", "jrcamp1a", "jrgeco1a")


def registry() -> Registry:
    """The registry of Cascade models; a name of the user's newer list goes before the published one."""
    published = read_list((_HERE / "models.yaml").read_text(encoding="utf-8"), "models.yaml")
    shipped = {
        f.parent.name: Entry(f.parent.name, info="comes with blockwise", folder=f.parent)
        for f in sorted((_HERE / "weights").glob("*/config.yaml"))
    }
    return Registry(TASK, published | updated_list(TASK) | shipped, check=_check, advise=suggest)


def _check(folder: Path) -> None:
    """Read all of a model that was fetched, before it gets its place."""
    model = load_model(folder)
    for level in model.levels:
        model.members(level)


@dataclass(frozen=True, slots=True)
class _Candidate:
    entry: Entry
    family: str
    frame_rate: float
    smoothing: float
    causal: bool
    high_noise: bool

    @property
    def inhibitory(self) -> bool:
        return "INH" in self.family.upper()

    @property
    def general(self) -> bool:
        """Trained over many data sets, not one indicator in one place."""
        return self.family.split("_")[0] in ("Global", "blockwise") and not self.high_noise

    def off(self, frame_rate: float) -> float:
        return abs(frame_rate - self.frame_rate) / self.frame_rate


def _candidates(models: Registry) -> Iterator[_Candidate]:
    for entry in models.entries.values():
        if found := _NAME.fullmatch(entry.name):
            rest = found["rest"].lower()
            rate, smoothing = float(found["rate"]), float(found["ms"]) / 1000
            yield _Candidate(entry, found["family"], rate, smoothing, "causal" in rest, "high_noise" in rest)


def suggest(
    models: Registry | None = None,
    *,
    frame_rate: float,
    indicator: str | None = None,
    causal: bool | None = None,
    smoothing: float | None = None,
    inhibitory: bool = False,
    present: bool = False,
    whose: str = "your",
) -> Suggestion:
    """The model that fits a recording best.

    In this order count: the kind of cells, a rate within 5 %, the nearest rate, ground truth of the indicator or of many, the kernel
    asked for (a causal one where nothing is), the smoothing asked for (the shortest where nothing is), being on this machine.

    Parameters
    ----------
    frame_rate : Hz, of the recording.
    indicator : e.g. GCaMP6f.
    causal : whether rates shall not precede their spikes.
    smoothing : s, standard deviation of the kernel.
    inhibitory : the neurons are interneurons.
    present : choose among models on this machine.
    whose : rate it is, in the words of the reason: "your", "the file's", "the assumed".

    Returns
    -------
    The best; it does not `fit` where its rate is so far off that a run refuses it, or where it is for the other kind of cells.

    Raises
    ------
    ConfigError : frame rate not above 0, or no model to choose among.
    """
    if not frame_rate > 0:
        raise ConfigError(f"frame rate {frame_rate} Hz: above 0 is wanted")
    eighth = "gcamp8" in _plain(indicator)

    def misfit(c: _Candidate) -> tuple[object, ...]:
        return (
            c.inhibitory != inhibitory,
            c.off(frame_rate) > LARGEST_RATE_ERROR,
            round(abs(log(frame_rate / c.frame_rate)), 6),
            not c.general if not eighth else not c.family.startswith("GC8"),
            c.high_noise,
            c.causal != (True if causal is None else causal),
            c.smoothing if smoothing is None else abs(c.smoothing - smoothing),
            not c.entry.present,
            c.entry.name,
        )

    choice = [c for c in _candidates(models or registry()) if c.entry.present or not present]
    if not choice:
        raise ConfigError("no model to choose among: `blockwise models list` shows all, `blockwise models get NAME` fetches one")
    best = min(choice, key=misfit)
    wishes = _unmet(best, frame_rate, indicator, causal, smoothing, inhibitory)
    fits = best.off(frame_rate) <= LARGEST_RATE_ERROR and best.inhibitory == inhibitory
    return Suggestion(best.entry.name, _reason(best, f"{whose} {frame_rate:g} Hz", frame_rate), tuple(wishes), best.entry.present, fits)


def _reason(c: _Candidate, wanted: str, frame_rate: float) -> str:
    cells = "interneurons" if c.inhibitory else "excitatory neurons" if c.general else c.family.replace("_", " ")
    breadth = "with many indicators" if c.general else "of one kind of recording"
    where = "It is on this machine." if c.entry.present else f"Fetch it: blockwise models get {c.entry.name}"
    return (
        f"Trained for {c.frame_rate:g} Hz, {c.off(frame_rate):.1%} from {wanted}, on {cells} {breadth}; "
        f"{'causal' if c.causal else 'symmetric'} kernel, smoothing {c.smoothing * 1000:g} ms. {where}"
    )


def _unmet(
    c: _Candidate, frame_rate: float, indicator: str | None, causal: bool | None, smoothing: float | None, inhibitory: bool
) -> Iterator[str]:
    if c.off(frame_rate) > LARGEST_RATE_ERROR:
        yield (
            f"No model for {frame_rate:g} Hz is known: the nearest is for {c.frame_rate:g} Hz, {c.off(frame_rate):.0%} off, and more than "
            f"{LARGEST_RATE_ERROR:.0%} is refused. Resample the recording, read a newer list "
            "(`blockwise models update URL --task cascade`), or train a model."
        )
    if c.inhibitory != inhibitory:
        yield f"No model for {'inter' if inhibitory else 'excitatory '}neurons is known at that rate."
    if indicator and c.general and _plain(indicator) not in _TRAINED_WITH:
        yield f"The ground truth of these models has no {indicator}: compare rates with what you know of the neurons."
    if causal is not None and c.causal != causal:
        yield f"At that rate there is none with a {'causal' if causal else 'symmetric'} kernel."
    if smoothing is not None and abs(c.smoothing - smoothing) > 1e-6:
        yield f"At that rate there is none with a smoothing of {smoothing * 1000:g} ms."


def _plain(indicator: str | None) -> str:
    return re.sub(r"[^a-z0-9]", "", (indicator or "").lower())
