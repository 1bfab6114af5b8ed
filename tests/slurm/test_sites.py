"""What deploy/slurm holds: the presets fit the schema and make jobs that SLURM takes, the launch script drives a run."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from blockwise.cluster import slurm
from blockwise.cluster.context import RunContext
from blockwise.config import ClusterConfig
from blockwise.threads import workers_per_job
from blockwise.upkeep import status
from tests.slurm.server import CPUS, GPUS, PARTITION, ROOT, Site, wait_for
from tests.slurm.test_commands import cascade

PRESETS = sorted((ROOT / "deploy" / "slurm").glob("*.toml"))
LAUNCH = ROOT / "deploy" / "slurm" / "launch.sh"


def cluster_of(path: Path) -> ClusterConfig:
    values = tomllib.loads(path.read_text())
    assert list(values) == ["cluster"]
    return ClusterConfig(**values["cluster"])


def test_there_are_presets():
    assert [p.stem for p in PRESETS] == ["cpu", "gpu", "gpu_nodes"]


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_a_preset_makes_a_job_that_slurm_takes(site: Site, path: Path, tmp_path: Path):
    preset = cluster_of(path)
    script = slurm.job_script(preset, RunContext("x", tmp_path))
    assert f"#SBATCH -p {preset.partition}" in script
    assert ("--exclusive" in script) is preset.whole_node
    assert (f"--gres=gpu:{preset.gpus}" in script) is bool(preset.gpus)
    assert f"--workers {workers_per_job(preset)} " in script
    here = {"partition": PARTITION, "cores": min(CPUS, preset.cores), "memory": "2GB", "gpus": preset.gpus and min(GPUS, preset.gpus)}
    assert "to start at" in slurm.tested(slurm.job_script(preset.model_copy(update=here), RunContext("x", tmp_path)))
    syntax = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (syntax.returncode, syntax.stderr) == (0, "")


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_key_of_a_preset_is_explained_or_plain(path: Path):
    lines = [line for line in path.read_text().splitlines() if " = " in line and not line.lstrip().startswith("#")]
    plain = ("kind", "device", "partition")
    assert not [line for line in lines if "#" not in line and not line.startswith(plain)]


@pytest.mark.slow
def test_the_launch_script_drives_a_run(site: Site, tmp_path: Path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    options = ["--mem=2G", "--time=20", f"--output={tmp_path}/driver-%j.log"]
    said = site.command("sbatch", "--parsable", *options, str(LAUNCH), str(cascade(tmp_path)), environment={"PATH": path})
    assert wait_for(lambda: not site.jobs(), 90)
    assert status(tmp_path / "run.run").state == "done", (tmp_path / f"driver-{said.strip()}.log").read_text()
