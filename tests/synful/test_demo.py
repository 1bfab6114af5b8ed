"""The demo on the shipped network: it finds the partners, and what it prints and leaves is there."""

import re
from pathlib import Path

import pytest

from tasks.synful.checkpoint import load_network
from tasks.synful.demo import configuration
from tests.runs import blockwise

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder in which the demo ran, and what it said."""
    folder = tmp_path_factory.mktemp("demo") / "here"
    return folder, blockwise("demo", "synful", folder, "--workers", 1)


def test_it_finds_the_partners(demo):
    _, told = demo
    assert told.code == 0, told.err
    assert float(re.search(r"F-score ([\d.]+) at 400 nm", told.out)[1]) >= 0.8
    assert int(re.search(r"(\d+) true partners", told.out)[1]) > 100


def test_it_leaves_a_run_folder_a_report_a_picture_and_partners(demo):
    folder, told = demo
    for name in ("run.run/report.html", "demo.png", "run.zarr/partners.parquet"):
        assert (folder / name).exists(), name
        assert str(folder / name) in told.out
    assert "F-score" in (folder / "run.run" / "report.html").read_text() or "f_score" in (folder / "run.run" / "report.html").read_text()


def test_again_it_computes_nothing_and_says_the_same(demo):
    folder, told = demo
    again = blockwise("demo", "synful", folder, "--workers", 1)
    assert again.out.splitlines()[0] == told.out.splitlines()[0]
    assert "all done before" in again.out


def test_the_preset_is_the_demos_configuration():
    assert (ROOT / "configs" / "demo-synful.toml").read_text() == configuration(Path("demo-synful"), 2)


def test_the_shipped_network_is_small():
    weights = ROOT / "tasks" / "synful" / "weights" / "synful-demo"
    assert sum(f.stat().st_size for f in weights.iterdir()) <= 5_000_000
    assert load_network("synful-demo").activation == "sigmoid"
