"""The container recipes: what they copy is there and makes the package, what they name is pinned, nothing runs as root.

Parsed, not built. What both recipes copy is installed as a wheel, without network, and holds the tasks, weights and pages.
"""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from importlib.metadata import entry_points
from pathlib import Path

import dask
import pytest
import yaml

from blockwise.cluster.settings import NETWORK_S, dask_settings
from blockwise.cluster.slurm import JOB_NANNY, JOB_WORKER

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "containers"
Instruction = tuple[str, list[str]]


def dockerfile() -> list[Instruction]:
    """Instructions and their words, comments dropped, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split()[0], line.split()[1:]) for line in lines if line.strip()]


def words(name: str) -> list[list[str]]:
    """The arguments of every instruction of a name."""
    return [arguments for instruction, arguments in dockerfile() if instruction == name]


def sections() -> dict[str, str]:
    """The sections of the Apptainer recipe; "" is its head."""
    parts = re.split(r"^%(\w+)\n", re.sub(r"^#.*\n", "", (FOLDER / "blockwise.def").read_text(), flags=re.M), flags=re.M)
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def docker_sources() -> list[str]:
    return [source for arguments in words("COPY") if not arguments[0].startswith("--") for source in arguments[:-1]]


def apptainer_sources() -> list[str]:
    return [line.split()[0] for line in sections()["files"].strip().splitlines()]


def test_every_instruction_is_one_that_docker_knows():
    assert {name for name, _ in dockerfile()} <= {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD"}


def test_base_images_are_pinned_and_the_same():
    images = [arguments[0] for arguments in words("FROM")]
    (apptainer,) = re.findall(r"^From: (\S+)$", sections()[""], re.M)
    assert set(images) == {apptainer}
    assert re.fullmatch(r"python:3\.1[123]\.\d+-slim-[a-z]+", apptainer)
    assert "Bootstrap: docker" in sections()[""]


def test_it_does_not_run_as_root():
    instructions = dockerfile()
    last = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    users = [arguments[0] for name, arguments in instructions[last:] if name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert any(f"useradd --create-home --uid 1000 {users[-1]}" in " ".join(a) for a in words("RUN"))
    assert next(name for name, _ in reversed(instructions)) == "CMD"


def test_both_recipes_copy_the_same_and_it_is_there():
    assert sorted(docker_sources()) == sorted(apptainer_sources())
    assert [s for s in docker_sources() if not (ROOT / s).exists()] == []


def test_the_builder_is_sent_what_is_copied_and_no_more():
    rules = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(r[1:] for r in rules if r.startswith("!")) == sorted(docker_sources())


@pytest.mark.parametrize("recipe", ["Dockerfile", "blockwise.def"])
def test_versions_are_those_of_the_constraints(recipe):
    text = (FOLDER / recipe).read_text()
    installs = re.findall(r"pip install [^\n]*", text)
    assert len(installs) == 1
    assert "-c constraints.txt" in installs[0]
    assert "TORCH_INDEX" in text
    assert "://" not in installs[0]


def test_the_shell_of_both_recipes_parses():
    scripts = [" ".join(a) for a in words("RUN")] + [
        re.sub(r"\{\{.*?\}\}", "x", sections()[s]) for s in ("post", "environment", "runscript")
    ]
    for script in scripts:
        checked = subprocess.run(["sh", "-n", "-c", script], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_every_variable_is_declared():
    declared = {a[0].partition("=")[0] for a in words("ARG")}
    used = set(re.findall(r"\$\{?(\w+)", " ".join(" ".join(a) for a in words("RUN"))))
    assert used == declared
    assert set(re.findall(r"\{\{ (\w+) \}\}", sections()["post"])) == {
        line.partition("=")[0].strip() for line in sections()["arguments"].strip().splitlines()
    }


def test_the_commands_exist():
    scripts = {e.name for e in entry_points(group="console_scripts")}
    (command,) = words("CMD")
    assert yaml.safe_load(" ".join(command)) == ["blockwise", "--help"]
    assert {"blockwise", "dask"} <= scripts
    for line in (*sections()["runscript"].splitlines(), *sections()["help"].splitlines()):
        parts = shlex.split(line)
        if "exec" in parts[:1]:
            assert parts[1] in scripts


def test_what_is_copied_makes_the_whole_package(tmp_path):
    """The wheel of those files alone holds every module and data file that lies in the checkout."""
    place = tmp_path / "source"
    place.mkdir()
    for source in docker_sources():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place / source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            (place / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place / source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path), "."]
    made = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("blockwise-*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(f.relative_to(place)) for room in ("blockwise", "tasks") for f in (place / room).rglob("*.py")}
    assert modules <= inside
    assert any(fnmatch(name, "tasks/*/weights/*") for name in inside)
    assert "blockwise/monitor/page.html" in inside or any(fnmatch(n, "blockwise/monitor/*.html") for n in inside)


def test_the_settings_of_workers_are_those_of_the_engine():
    """One file for scheduler and workers that blockwise does not start says what `dask_settings` says for those it does."""
    told = yaml.safe_load((ROOT / "deploy" / "dask" / "blockwise.yaml").read_text())
    wanted = dask_settings(1, network_s=NETWORK_S)
    for key in ("scheduler.allowed-failures", "scheduler.worker-ttl", "scheduler.work-stealing", "worker.daemon",
                "worker.multiprocessing-method", "worker.memory.target", "worker.memory.spill", "comm.timeouts.tcp"):  # fmt: skip
        assert dask.config.get(f"distributed.{key}", config=told) == wanted[f"distributed.{key}"], key
    assert dask.config.get("distributed.worker.preload", config=told) == [JOB_WORKER]
    assert dask.config.get("distributed.nanny.preload", config=told) == [JOB_NANNY]
    environment = {k: str(v) for k, v in dask.config.get("distributed.nanny.pre-spawn-environ", config=told).items()}
    engine = {k: str(v) for k, v in wanted["distributed.nanny.pre-spawn-environ"].items()}
    assert environment.items() <= engine.items()
