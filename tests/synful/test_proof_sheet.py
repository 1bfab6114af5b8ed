"""Proof sheets: what is sampled, what is written, and what ticks say."""

import csv
import math

import numpy as np
import pyarrow as pa
import pytest

from blockwise.errors import ConfigError, InputError, MissingError, PlanRefused
from tasks.synful.cutouts import Camera
from tasks.synful.partners import table
from tasks.synful.proof_sheet import proof_sheet, read_ticks, sample


def partners(scores):
    n = len(scores)
    sites = np.random.default_rng(1).integers(0, 400, (n, 3))
    return table(sites + 20, sites, scores, np.arange(n) + 10**15)


@pytest.fixture
def sheet(tmp_path):
    camera = Camera(np.random.default_rng(0).integers(0, 255, (12, 120, 120), np.uint8), (40, 4, 4), radius_nm=100, pixels=40)
    sampled = sample(partners(np.arange(60.0)), bins=3, per_bin=4)
    return sampled, *proof_sheet(sampled, camera, tmp_path / "proof", link=lambda row: f"https://viewer/?a&id={row['id']}")


def tick(path, verdict):
    """Write verdicts of (bin, row within it)."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    seen = {}
    for row in rows:
        row["verdict"] = verdict(int(row["bin"]), seen.setdefault(row["bin"], 0))
        seen[row["bin"]] += 1
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_every_bin_is_sampled_alike():
    sampled = sample(partners(np.random.default_rng(0).gamma(1, 50, 1000)), bins=5, per_bin=12, seed=3)
    assert np.bincount(sampled["bin"]).tolist() == [12] * 5
    assert set(sampled["bin_size"].to_pylist()) == {200}
    means = [np.mean([r["score"] for r in sampled.to_pylist() if r["bin"] == b]) for b in range(5)]
    assert means == sorted(means)
    assert sampled["bin"].to_pylist() != sorted(sampled["bin"].to_pylist())
    assert len(set(sampled["id"].to_pylist())) == 60


def test_the_seed_decides_the_sample():
    predicted = partners(np.arange(100.0))
    first, again, other = (sample(predicted, seed=s) for s in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


@pytest.mark.parametrize(("scores", "sizes"), [([1.0] * 7, [7]), ([1.0, 1, 1, 2], [3, 1]), ([], [])])
def test_bins_of_few_scores(scores, sizes):
    sampled = sample(partners(scores), bins=4, per_bin=50)
    assert sorted(set(zip(sampled["bin"].to_pylist(), sampled["bin_size"].to_pylist(), strict=True))) == list(enumerate(sizes))
    assert sampled.num_rows == len(scores)


def test_a_page_and_a_csv(sheet):
    sampled, page, ticks = sheet
    text = page.read_text()
    assert (text.count("<article"), text.count("<svg "), text.count("data:image/png;base64,")) == (12, 48, 48)
    assert f'href="https://viewer/?a&amp;id={sampled["id"][0]}"' in text
    assert "src=" not in text
    rows = list(csv.DictReader(ticks.open()))
    assert [int(r["id"]) for r in rows] == sampled["id"].to_pylist()
    assert [float(r["score"]) for r in rows] == sampled["score"].to_pylist()
    assert {r["verdict"] for r in rows} == {""}


def test_verdicts_are_never_overwritten(sheet):
    sampled, _, ticks = sheet
    with pytest.raises(PlanRefused, match="may hold verdicts"):
        proof_sheet(sampled, Camera(np.zeros((1, 1, 1), np.uint8), (40, 4, 4)), ticks.parent)


def test_ticks_give_precision_by_bin(sheet):
    tick(sheet[2], lambda b, i: ("no" if i < 3 else "", "Y" if i < 2 else "n", "yes")[b])
    found = read_ticks(sheet[2])
    assert [(p.right, p.wrong, p.size) for p in found.bins.values()] == [(0, 3, 20), (2, 2, 20), (4, 0, 20)]
    assert [p.precision for p in found.bins.values()] == [0, 0.5, 1]
    assert (found.overall.right, found.overall.wrong, found.overall.precision) == (6, 5, pytest.approx(0.5))
    assert 0.2 < found.overall.low < 0.4
    assert 0.6 < found.overall.high < 0.8


def test_a_bin_without_verdicts_may_be_anything(sheet):
    tick(sheet[2], lambda b, i: "y" if b else "?")
    found = read_ticks(sheet[2])
    assert math.isnan(found.bins[0].precision)
    assert (found.bins[0].low, found.bins[0].high) == (0, 1)
    assert found.overall.precision == pytest.approx((0.5 + 1 + 1) / 3)


@pytest.mark.parametrize(
    ("right", "judged", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0)]
)
def test_one_bin_has_the_interval_of_wilson(tmp_path, right, judged, low, high):
    file = tmp_path / "proof.csv"
    file.write_text("bin,bin_size,verdict\n" + "".join(f"0,500,{'y' if i < right else 'n'}\n" for i in range(judged)))
    overall = read_ticks(file).overall
    assert (overall.low, overall.high) == pytest.approx((low, high), abs=1e-4)


def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path):
    random, shares, sizes, held = np.random.default_rng(0), (0.3, 0.8, 0.99), (1000, 3000, 500), 0
    truth = np.dot(shares, sizes) / sum(sizes)
    for trial in range(400):
        file = tmp_path / f"{trial}.csv"
        rows = [f"{b},{n},{'y' if v else 'n'}\n" for b, (p, n) in enumerate(zip(shares, sizes, strict=True)) for v in random.random(25) < p]
        file.write_text("bin,bin_size,verdict\n" + "".join(rows))
        overall = read_ticks(file).overall
        held += overall.low <= truth <= overall.high
    assert 0.92 <= held / 400 <= 0.99


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, MissingError, "no file"),
        ("id,score\n1,2\n", InputError, "lacks the columns bin, bin_size, verdict"),
        ("bin,bin_size,verdict\n0,5,\n0,5,?\n", InputError, "no verdict in 2 lines"),
        ("bin,bin_size,verdict\n0,5,y\n0,5,maybe\n", InputError, "line 3: verdict 'maybe'"),
    ],
)
def test_ticks_that_cannot_be_read(tmp_path, content, error, message):
    file = tmp_path / "proof.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(error, match=message):
        read_ticks(file)


def test_what_cannot_be_sampled():
    with pytest.raises(ConfigError, match="0 bins"):
        sample(partners([1.0]), bins=0)
    with pytest.raises(InputError, match="score"):
        sample(pa.table({"id": [1]}))
