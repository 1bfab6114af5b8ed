"""What decides a result, per stage and domain, as key -> short text: the guard against skipping work that is not the same work (G3).

Covered: task and version, grid, the options the task says matter, and whatever the task adds (model digest, input identity).
Not covered: where it runs ([cluster], [ledger], [run]), where files lie, and the secrets in a URL, which are not kept.
"""

import hashlib
import json
from collections.abc import Collection, Mapping

from blockwise.errors import FingerprintMismatch, PlanRefused
from blockwise.redaction import redact_urls
from blockwise.storage.identity import difference
from blockwise.task import Task

NEVER_ADOPTED = ("grid.", "task")
"""A ledger's pages mean nothing under another grid or task."""


def fingerprint(task: Task, domain: int) -> dict[str, str]:
    """Key -> value of one domain of one stage; long values as digests."""
    spec = task.spec()
    values: dict[str, object] = {
        "task": task.name,
        "version": task.version,
        "grid.shape": list(spec.shape),
        "grid.context": [list(c) for c in spec.context],
        "grid.edge": spec.edge,
        **{f"options.{k}": v for k, v in task.relevant_options().items()},
        **task.fingerprint(domain),
    }
    return {key: _short(value) for key, value in values.items()}


def _short(value: object) -> str:
    text = redact_urls(value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str))
    return text if len(text) <= 80 else "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:32]


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Keys whose values differ, sorted."""
    return sorted(k for k in {*then, *now} if then.get(k) != now.get(k))


def check(
    where: str, then: Mapping[str, str], now: Mapping[str, str], adopt: Collection[str] = (), *, places: Mapping[str, str] | None = None
) -> list[str]:
    """Compare a stored fingerprint with today's; the keys that `adopt` (exact names or sections like "input") allowed to differ.

    Parameters
    ----------
    places : key -> file or folder that its value identifies, for the message.

    Raises
    ------
    FingerprintMismatch : a key differs that was not adopted; names each with both values.
    PlanRefused : `adopt` names a key that no run can continue over.
    """
    differing = differences(then, now)
    refused = [k for k in differing if not _adopted(k, adopt)]
    if refused:
        lines = "\n".join(_told(k, then.get(k, "absent"), now.get(k, "absent"), (places or {}).get(k)) for k in refused)
        adoptable = [k for k in refused if not k.startswith(NEVER_ADOPTED)]
        harmless = f", or, if the difference does no harm, continue with --adopt {adoptable[0]}" if adoptable == refused else ""
        of_inputs = all(k.startswith("input.") for k in refused)
        made, back = ("from other inputs", "those inputs") if of_inputs else ("with other settings", "those settings")
        raise FingerprintMismatch(
            f"{where} was made {made}:\n{lines}\nGo back to {back}, or start anew with another [run] folder and [output] path{harmless}."
        )
    final = [k for k in differing if k.startswith(NEVER_ADOPTED)]
    if final:
        raise PlanRefused(f"--adopt {final[0]}: another grid or task has other blocks; use another [run] folder and [output] path")
    return differing


def _told(key: str, then: str, now: str, place: str | None) -> str:
    """One line about one key: which file changed, and in what; for all else both values in the words of TOML."""
    if place is not None and then != "absent" != now:
        return f"  {key}: {place} changed: {difference(then, now)}"
    words = {"True": "true", "False": "false"}
    return f"  {key}: was {words.get(then, then)}, now {words.get(now, now)}"


def _adopted(key: str, adopt: Collection[str]) -> bool:
    return any(key == a or key.startswith(f"{a}.") for a in adopt)
