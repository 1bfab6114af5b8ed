"""The report of a run: one HTML file that needs nothing else and runs no script.

Pictures are data URIs, curves are inline SVG, tracebacks fold by themselves. Names, errors, configuration and captions are escaped, and
the page's Content-Security-Policy admits its own style sheet and data images only. The file appears whole or not at all.
"""

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from blockwise.errors import StorageError
from blockwise.monitor import svg
from blockwise.monitor.text import first_line, human_bytes, human_rate, human_seconds, percent, plain, plural, share_done, value_text
from blockwise.status import FailureStatus, HistoryPoint, SlowBlock, Status

if TYPE_CHECKING:
    from blockwise.task import Picture

MAX_FAILURES: int = 200
"""Failed blocks shown with their traceback; the ledger keeps the others."""


def write_report(
    path: Path,
    *,
    status: Status,
    config_text: str,
    history: Sequence[HistoryPoint] = (),
    results: Sequence[tuple[str, Mapping[str, object], Sequence[str]]] = (),
    slowest: Sequence[SlowBlock] = (),
    pictures: Sequence["Picture"] = (),
    provenance: Mapping[str, object] | None = None,
) -> None:
    """Write the report of a run as one self-contained HTML file, replacing the one that is there.

    Parameters
    ----------
    config_text : the resolved configuration, as TOML.
    history : progress of the main stage, oldest first.
    results : per stage its name, the figures it found by name, and what it warned of.
    slowest : the slowest blocks, slowest first.
    pictures : example inputs and outputs.
    provenance : versions, machine, inputs, by name; values that are no text are shown as JSON.

    Raises
    ------
    StorageError : the file cannot be written.
    """
    sections = (
        _overview(status),
        _section("Results", _results(results)),
        _section("Example input and output", "".join(map(_picture, pictures))),
        f'<div class="columns">{_section("Blocks", _block_map(status))}<div>',
        _section("Blocks per second", svg.throughput(history)),
        _section("Stages", _stages(status)),
        "</div></div>",
        _section("Slowest blocks", _slowest(slowest)),
        _section(plural(status.blocks.failed, "failed block"), _failures(status)),
        _section("Configuration", f"<pre>{text(config_text)}</pre>" if config_text else ""),
        _section("Provenance", _provenance(provenance or {})),
    )
    _replace(path, _document(status, "".join(sections)))


def legend(*items: tuple[str, str]) -> str:
    """(class of the colour, what it stands for) side by side."""
    return f'<p class="legend">{"".join(f"""<span><i class="{kind}"></i>{name}</span>""" for kind, name in items)}</p>'


def text(value: str) -> str:
    """Foreign text, safe as the content of an element and as an attribute in quotes."""
    return escape(plain(value), quote=True)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """An HTML table; cells are HTML, escaped by the caller."""

    def row(tag: str, cells: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=number' if i in right else ''}>{c}</{tag}>" for i, c in enumerate(cells))

    body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in rows)
    return f'<div class="scroll"><table><thead><tr>{row("th", header)}</tr></thead><tbody>{body}</tbody></table></div>'


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _overview(status: Status) -> str:
    blocks, share = status.blocks, share_done(status)
    figures = [
        ("done", percent(share)),
        ("blocks", f"{blocks.done:,} of {blocks.total:,}"),
        ("failed", f"{blocks.failed:,}"),
        ("masked", f"{blocks.masked:,}" if blocks.masked else ""),
        ("computed", f"{blocks.executed:,}"),
        ("elapsed", human_seconds(status.elapsed_s)),
        ("blocks/s", human_rate(status.blocks_per_s) if status.blocks_per_s else ""),
        ("throughput", f"{human_bytes(status.bytes_per_s)}/s" if status.bytes_per_s else ""),
    ]
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures if value)
    failed = blocks.failed / blocks.total if blocks.total else 0.0
    return f'<section>{_progress(share, failed)}<dl class="figures">{items}</dl></section>'


def _progress(done: float, failed: float) -> str:
    return svg.stack([("done", done), ("failed", failed)], 1.0, style="progress")


def _block_map(status: Status) -> str:
    return (
        svg.block_map(status.map) + legend(("done", "done"), ("running", "running"), ("failed", "failed"), ("", "to do"))
        if status.map
        else ""
    )


def _stages(status: Status) -> str:
    header = ("stage", "state", "done", "total", "failed", "masked", "orphans", "computed")
    counts = (
        (s, (s.blocks.done, s.blocks.total, s.blocks.failed, s.blocks.masked, s.blocks.orphans, s.blocks.executed)) for s in status.stages
    )
    return table(header, ((text(s.name), s.state, *(f"{n:,}" for n in numbers)) for s, numbers in counts), range(2, 8))


def _results(results: Sequence[tuple[str, Mapping[str, object], Sequence[str]]]) -> str:
    rows = [(text(stage), text(name), text(value_text(value))) for stage, figures, _ in results for name, value in figures.items()]
    warnings = "".join(f"<p><b>{text(stage)}</b> {text(said)}</p>" for stage, _, said_of in results for said in said_of)
    return (table(("stage", "", ""), rows) if rows else "") + warnings


def _slowest(blocks: Sequence[SlowBlock]) -> str:
    if not blocks:
        return ""
    longest = max(b.total_s for b in blocks)
    rows = (
        (
            text(b.stage),
            text(b.domain),
            f"{b.block:,}",
            *map(human_seconds, (b.read_s, b.compute_s, b.write_s, b.total_s)),
            _bar(b, longest),
        )
        for b in blocks
    )
    header = ("stage", "domain", "block", "read", "compute", "write", "total", "")
    return table(header, rows, range(2, 7)) + legend(("read", "read"), ("done", "compute"), ("write", "write"))


def _bar(block: SlowBlock, longest_s: float) -> str:
    return svg.stack([("read", block.read_s), ("compute", block.compute_s), ("write", block.write_s)], longest_s)


def _failures(status: Status) -> str:
    shown = status.failures[:MAX_FAILURES]
    more = max(status.blocks.failed, len(status.failures)) - len(shown)
    rest = f'<p class="faint">and {plural(more, "more failed block")}</p>' if more > 0 else ""
    return "".join(map(_failure, shown)) + rest


def _failure(failure: FailureStatus) -> str:
    where = text(f"{failure.stage} · {failure.domain} · block {failure.block:,}")
    what = text(f"{failure.kind}, {plural(failure.attempts, 'attempt')}, {failure.worker}: {first_line(failure.error, 300)}")
    return f"<details><summary><b>{where}</b> — {what}</summary><pre>{text(failure.traceback or failure.error)}</pre></details>"


def _picture(picture: "Picture") -> str:
    data = base64.b64encode(picture.png).decode()
    caption = f"<figcaption><b>{text(picture.title)}</b> {text(picture.caption)}</figcaption>"
    return f'<figure><img alt="{text(picture.title)}" src="data:image/png;base64,{data}">{caption}</figure>'


def _provenance(values: Mapping[str, object]) -> str:
    rows = ((text(name), f"<code>{text(v if isinstance(v, str) else json.dumps(v, default=str))}</code>") for name, v in values.items())
    return table(("what", "value"), rows) if values else ""


def _document(status: Status, body: str) -> str:
    style = files("blockwise.monitor").joinpath("style.css").read_text(encoding="utf-8")
    name, state = text(status.run), text(status.state)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{name}</h1><span class="state {state}">{state}</span><p class="sub">{text(status.task)}</p></header>
<main>{body}</main>
<footer>run folder {text(status.folder)} · output {text(status.output)}</footer>
</body>
</html>
"""


def _replace(path: Path, document: str) -> None:
    """Write beside `path`, then rename."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(document, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise StorageError(f"cannot write the report to {path}: {error.strerror}; choose a folder that is there and writable") from error
