"""The rules of the house: imports run one way, files and functions stay short, errors are ours, and the command answers at once."""

import ast
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from blockwise import errors
from blockwise.config import load_config

ROOT = Path(__file__).resolve().parents[1]

ROOMS = (
    "_version errors redaction events geometry grid",
    "config gpu_use threads",
    "storage",
    "task",
    "fingerprint graph plan",
    "ledger",
    "status totals folder worker_logs heartbeat history jsonlines",
    "deadline failures gpu leaving versions lease items pipeline work worker",
    "cluster",
    "leasing books presence readiness outage desk driver dispatch stages",
    "reduce",
    "chain claim audience snapshot run upkeep",
    "monitor",
    "download unpack models models_command submit_command doctor",
    "cli",
    "testing",
)
"""The rooms of `blockwise` in the order of the design: a module imports its own line and what stands above it, nothing below."""

FROM_BELOW = {
    ("upkeep", "blockwise.monitor.report"): "`report` imports its writer when called",
}
"""Imports that go down on purpose, each with its reason."""

BUILTINS_ALLOWED = {
    "geometry": {"ValueError"},
    "grid": {"IndexError"},
    "task": {"TypeError"},
    "download": {"ConnectionError"},
    "models": {"ValueError"},
    "items": {"ValueError"},
    "testing": {"AssertionError", "MemoryError"},
    "cli": {"Exit", "SystemExit"},
    "models_command": {"Exit", "SystemExit"},
}
"""What else a module may raise: misuse by a programmer in the value types; what it catches itself and says as one of ours (download,
models) or books as a failed block (items); exits in the command line."""

IN_FUNCTIONS = {"__getattr__": {"AttributeError"}, "__getitem__": {"IndexError", "KeyError"}, "__iter__": {"TypeError"}}
"""Builtins that Python's own protocols ask for."""


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def sources(*folders: str) -> list[Path]:
    return [p for f in folders for p in sorted((ROOT / f).rglob("*.py"))]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, inside functions too."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from [f"{node.module}.{a.name}" for a in node.names] if node.module == "blockwise" else [node.module]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = node.body[0]
    doc = (first.end_lineno - first.lineno + 1) if ast.get_docstring(node) is not None else 0
    return node.end_lineno - node.lineno + 1 - doc


# Rooms


RANK = {room: i for i, line in enumerate(ROOMS) for room in line.split()}


def rooms() -> Iterator[tuple[Path, str]]:
    for path in sources("blockwise"):
        yield path, path.relative_to(ROOT / "blockwise").parts[0].removesuffix(".py")


def test_every_room_has_a_place():
    missing = {room for _, room in rooms()} - set(RANK) - {"__init__"}
    assert not missing, f"give these a place in ROOMS: {sorted(missing)}"


def test_imports_run_one_way():
    down = {
        (own, module)
        for path, own in rooms()
        for module in imported(path)
        if own in RANK and module.startswith("blockwise.") and RANK.get(room_of(module), -1) > RANK[own]
    }
    assert down - set(FROM_BELOW) == set()
    assert set(FROM_BELOW) - down == set(), "no longer imported: take it out of FROM_BELOW"


def test_the_engine_knows_no_science():
    assert not [relative(p) for p in sources("blockwise") for module in imported(p) if module.split(".")[0] == "tasks"]


def test_shared_parts_know_no_science():
    assert not [relative(p) for p in sources("tasks/spikes") for module in imported(p) if module.startswith("tasks.cascade")]


# Sizes and words


def test_files_are_short():
    long = {relative(p): n for p in sources("blockwise", "tasks") if (n := len(p.read_text().splitlines())) > 400}
    assert not long, f"split by noun: {long}"


def test_functions_are_short():
    sizes = {f"{relative(p)}:{f.name}": length(f) for p in sources("blockwise", "tasks") for f in functions(p)}
    over_40 = {name: n for name, n in sizes.items() if n > 40}
    assert not [name for name, n in sizes.items() if n > 60], over_40
    assert len(over_40) <= len(sizes) // 100, f"rarely over 40 lines: {over_40}"
    assert sorted(sizes.values())[len(sizes) // 2] <= 8


def undocumented(path: Path) -> Iterator[str]:
    if not ast.get_docstring(parsed(path)) and path.name != "__init__.py":
        yield relative(path)
    for node in parsed(path).body:
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if named and not ast.get_docstring(node) and not only_values(node):
            yield f"{relative(path)}:{node.name}"


def only_values(node: ast.AST) -> bool:
    """A class of typed fields and nothing else: its name and theirs say it."""
    return isinstance(node, ast.ClassDef) and all(isinstance(n, ast.AnnAssign | ast.Assign | ast.Pass) for n in node.body)


def test_everything_public_is_documented():
    assert not [name for path in sources("blockwise", "tasks") for name in undocumented(path)]


def test_only_the_command_line_prints():
    prints = [
        f"{relative(p)}:{n.lineno}"
        for p in sources("blockwise", "tasks")
        if p.stem not in ("cli", "commands", "models_command", "demo")
        for n in ast.walk(parsed(p))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print"
    ]
    assert not prints


def test_no_work_is_left_in_comments():
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
    assert not [relative(p) for p in sources("blockwise", "tasks", "tests", "benchmarks") if marks.search(p.read_text())]


# Errors


OURS = {name for name, value in vars(errors).items() if isinstance(value, type)}


def raised(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, class, function) of every `raise Class` in a file."""
    for function in functions(path):
        for node in ast.walk(function):
            if isinstance(node, ast.Raise) and node.exc is not None:
                target = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
                if name[:1].isupper():
                    yield node.lineno, name, function.name


def validators(path: Path) -> set[str]:
    """Functions that pydantic calls: they raise ValueError, which `validated` makes a ConfigError."""
    return {f.name for f in functions(path) if any("validator" in ast.unparse(d) for d in f.decorator_list)}


def test_every_error_is_ours():
    wrong = []
    for path in sources("blockwise"):
        for line, name, function in raised(path):
            allowed = OURS | BUILTINS_ALLOWED.get(path.stem, set()) | IN_FUNCTIONS.get(function, set())
            if name not in allowed and not (name == "ValueError" and function in validators(path)):
                wrong.append(f"{relative(path)}:{line} raises {name}")
    assert not wrong


def test_errors_are_builtins_too():
    roots = {"BlockwiseError", "BlockwiseWarning"}
    builtins = {n: [c for c in vars(errors)[n].__mro__ if c.__module__ == "builtins"][:-3] for n in OURS - roots}
    assert not [n for n, bases in builtins.items() if not bases]
    assert len(OURS) <= 14


# The command


def cpu_seconds(*command: str) -> float:
    """CPU time of a process, the least of three: a busy machine makes it slow, not costly."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(3))


def test_help_answers_at_once():
    needed = cpu_seconds(sys.executable, "-c", "import typer.rich_utils, pydantic, numpy")
    found = cpu_seconds(sys.executable, "-m", "blockwise.cli", "--help")
    assert found < max(0.6, 2 * needed), f"{found:.2f} s CPU for help, {needed:.2f} s of them for typer, pydantic and numpy"


def test_help_imports_nothing_heavy():
    heavy = "torch tensorflow bokeh pymongo distributed matplotlib tensorstore scipy h5py zarr numba pandas"
    program = (
        "import sys; from blockwise.cli import app\n"
        "try: app(['--help'])\n"
        f"except SystemExit: sys.stderr.write(' '.join(m for m in {heavy.split()} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert "Usage" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("group", ["blockwise.tasks", "blockwise.commands", "blockwise.models"])
def test_entry_points_resolve(group: str):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][group]
    for name, value in declared.items():
        assert EntryPoint(name, value, group).load() is not None
    assert set(declared) <= {e.name for e in entry_points(group=group)}, "install again: pip install -e ."


# Presets and files


def presets() -> list[Path]:
    return sorted((ROOT / "configs").glob("*.toml"))


def test_there_are_presets():
    assert len(presets()) >= 4


@pytest.mark.parametrize("path", presets(), ids=lambda p: p.stem)
def test_preset_fits_its_schema(path: Path, monkeypatch: pytest.MonkeyPatch):
    from blockwise.run import task_class

    for name in [n for n in os.environ if n.startswith("BLOCKWISE_")]:
        monkeypatch.delenv(name)
    config = load_config(path)
    config.options_as(task_class(config).Options)
    assert path.read_text().startswith("# ")


def files_of_the_project() -> list[Path]:
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], check=True, capture_output=True, text=True
        )
        return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    return sources("blockwise", "tasks", "tests", "benchmarks", "docs")


@pytest.mark.parametrize("place", [lambda: ROOT, Path.home], ids=["checkout", "home"])
def test_no_file_names_a_place_on_this_machine(place: Callable[[], Path]):
    text = f"{place()}/".encode()
    assert not [relative(p) for p in files_of_the_project() if text in p.read_bytes()]


def test_exact_versions_are_pinned():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!+]+( *;.*)?", line)]
    assert "torch==2.13.0" in lines
