"""The search of extraction parameters, on predictions that are good at one threshold."""

import csv

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from blockwise.config import RunConfig
from blockwise.errors import BlockwiseError, ConfigError, InputError
from blockwise.geometry import Domain, Region
from blockwise.storage import OutputArray
from blockwise.testing import run_in, run_serially
from tasks.synful.curves import best
from tasks.synful.detection import detect
from tasks.synful.evaluation import evaluate
from tasks.synful.extraction import Predictions
from tasks.synful.formats.cremi import write_cremi
from tasks.synful.grid_search import SCHEMA, Trials, columns, combinations, search
from tasks.synful.grid_search_task import GridSearch, read_truth
from tasks.synful.options import ExtractOptions
from tasks.synful.partners import table

VOXEL, OFFSET = (40.0, 4.0, 4.0), (400.0, 80.0, 120.0)
SHAPE = (12, 100, 100)
DOMAIN = Domain("volume", ("z", "y", "x"), SHAPE, VOXEL, OFFSET, ("nm",) * 3)


def volume():
    """Mask (uint8, 255 is 1), vectors (int8, 0.25 per nm), truth: 16 sites of .9 in blobs of .6 that touch, and 9 false ones of .7."""
    mask, vectors = np.zeros(SHAPE, np.uint8), np.zeros((3, *SHAPE), np.int8)
    vectors[2] = 20
    real = [(3, 10 + 20 * i, 10 + 20 * j) for i in range(4) for j in range(4)]
    for z, y, x in real:
        mask[z, y - 10 : y + 10, x - 2 : x + 3] = 153
        mask[z - 1 : z + 2, y - 2 : y + 3, x - 2 : x + 3] = 230
    for y, x in [(10 + 30 * i, 10 + 30 * j) for i in range(3) for j in range(3)]:
        mask[9, y - 1 : y + 2, x - 1 : x + 2] = 179
    post = np.array(real) * VOXEL + OFFSET
    return mask, vectors, table(post + np.array((0, 0, 80)), post, np.ones(16), np.arange(16))


def predictions():
    return Predictions(*volume()[:2], (0, 0, 0), mask_scale=255.0, vectors_scale=0.25)


@pytest.fixture(scope="module")
def trials():
    return Trials(predictions(), DOMAIN, volume()[2], min_scores=4, options={"match_distance_nm": 60.0})


@pytest.fixture
def container(tmp_path):
    mask, vectors, truth = volume()
    path = tmp_path / "predictions.zarr"
    place = {"voxel_size": VOXEL, "offset": OFFSET, "units": ("nm",) * 3}
    for name, values, scale in (("pred_syn_indicator", mask, 255), ("pred_partner_vectors", vectors, 0.25)):
        extra = {k: ((1.0, 0.0, "")[i], *v) if values.ndim == 4 else v for i, (k, v) in enumerate(place.items())}
        array = OutputArray.create(
            path,
            f"volumes/{name}",
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            axes="czyx"[-values.ndim :],
            attributes={"scale": scale},
            **extra,
        )
        array.write(Region((0,) * values.ndim, values.shape), values).future.result()
    pyarrow.parquet.write_table(truth, tmp_path / "truth.parquet")
    return path


def configured(container, **options):
    values = {
        "truth": str(container.parent / "truth.parquet"),
        "thresholds": [0.5, 0.8],
        "match_distance_nm": 60,
        "min_scores": 4,
        **options,
    }
    return RunConfig(
        task="synful-search", input={"path": str(container)}, output={"path": str(container.parent / "search")}, options=values
    )


def test_combinations_have_the_parameters_of_their_method():
    found = combinations(methods=("cc", "nms", "cc"), thresholds=(0.5, 0.9), scores=("sum", "max"), nms_radii=((40, 40, 40),))
    assert len(found) == 2 * 2 + 2
    assert found[-1] == ExtractOptions(method="nms", threshold=0.9, nms_radius=(40, 40, 40))
    assert [columns(c)["score"] for c in found[:4]] == ["sum", "max"] * 2
    assert set(columns(found[0])) | set(columns(found[-1])) | {"min_score"} < set(SCHEMA.names)


@pytest.mark.parametrize(
    "given",
    [
        {"method": "cc", "threshold": 0.5, "score": "sum", "location": "edt"},
        {"method": "cc", "threshold": 0.8, "score": "count", "location": "centroid"},
        {"method": "nms", "threshold": 0.5, "nms_radius": (40.0, 40.0, 40.0)},
    ],
)
def test_rows_are_what_detect_and_evaluate_say(trials, given):
    """Of the same predictions as probabilities."""
    mask, vectors, truth = volume()
    rows = trials.rows(ExtractOptions(**given)).to_pylist()
    assert rows[0]["min_score"] is None
    for row in rows:
        minimum = row["min_score"] if row["min_score"] is None else row["min_score"] * (1 + 1e-7)  # sums of float32 and of bytes differ
        found = detect(mask / np.float32(255), vectors / np.float32(0.25), VOXEL, offset=OFFSET, min_score=minimum, **given)
        assert evaluate(found, truth, by="none", match_distance_nm=60).figures() == {k: row[k] for k in SCHEMA.names[8:]}


def test_the_best_is_found(trials):
    found = search(trials, combinations(methods=("cc", "nms"), thresholds=(0.5, 0.65, 0.8)))
    assert found.schema == SCHEMA
    top = best(found)
    assert (top["f_score"], top["threshold"]) == (1.0, 0.8)
    assert next(r["f_score"] for r in found.to_pylist() if r["threshold"] == 0.5 and r["method"] == "cc") < 0.7


def test_segments_drop_what_begins_and_ends_in_one():
    truth = volume()[2]
    segmentation = np.ones(SHAPE, np.uint64)
    segmentation[:6, :, ::2] = 2
    for segments, expected in ((segmentation, 0), (np.arange(segmentation.size, dtype=np.uint64).reshape(SHAPE) + 1, 16)):
        trials = Trials(predictions(), DOMAIN, truth, segmentation=segments, min_scores=(), options={"drop_same_id": "segment"})
        assert trials.rows(ExtractOptions(threshold=0.8))["true_positives"].to_pylist() == [expected]


def test_a_search_by_segments_needs_them():
    with pytest.raises(ConfigError, match="needs a segmentation"):
        Trials(predictions(), DOMAIN, volume()[2], options={"by": "segment"})


def test_a_run_finds_what_the_function_finds_and_nothing_twice(container, trials):
    task = GridSearch.from_config(configured(container))
    for _ in range(2):
        outcome = run_in(container.parent / "run", task, workers=1)
        assert (outcome.exit_code, outcome.status.blocks.total) == (0, 2)
    found = pyarrow.parquet.read_table(container.parent / "search" / "search.parquet")
    expected = search(trials, combinations(thresholds=(0.5, 0.8)))
    assert sorted(map(str, found.to_pylist())) == sorted(map(str, expected.to_pylist()))
    rows = list(csv.DictReader((container.parent / "search" / "search.csv").open()))
    assert float(rows[0]["f_score"]) == best(expected)["f_score"] == 1
    assert len(list((container.parent / "search" / "trials").rglob("*.arrow"))) == 2


def test_parts_that_are_missing_are_told(container):
    task = GridSearch.from_config(configured(container))
    run_serially(task)
    blocks = list(task.parts.grid.blocks(np.arange(2)))
    task.parts.file(blocks[1]).unlink()
    assert [task.stored(b) is None for b in blocks] == [False, True]
    assert task.finish().figures["combinations"] == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"truth": "nowhere.parquet"}, BlockwiseError, "nowhere"),
        ({"by": "segment"}, ConfigError, "need segments"),
        ({"mask": "volumes/none"}, InputError, "volumes/none"),
        ({"vectors": "volumes/pred_syn_indicator"}, InputError, "of one volume"),
        ({"thresholds": []}, ConfigError, "thresholds"),
        ({"segmentation": "{here}/segments.npy"}, InputError, "voxel size of .*segments.npy is not known"),
    ],
)
def test_bad_searches_fail_before_anything_is_written(container, options, error, message):
    np.save(container.parent / "segments.npy", np.zeros((2, 3, 4), np.uint64))
    options = {k: v.format(here=container.parent) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(error, match=message):
        GridSearch.from_config(configured(container, **options))
    assert not (container.parent / "search").exists()


def test_integers_without_a_scale_are_refused(container):
    OutputArray.create(container, "bare", shape=SHAPE, dtype="uint8", chunks=SHAPE, axes="zyx", voxel_size=VOXEL)
    with pytest.raises(InputError, match="without the attribute `scale`"):
        GridSearch.from_config(configured(container, mask="bare"))


def test_truth_of_a_cremi_file_has_the_segments_there(tmp_path):
    truth = table([[40, 4, 4]], [[40, 8, 4]], [1.0], [0])
    write_cremi(truth, tmp_path / "truth.hdf")
    assert "segment_pre" not in read_truth(str(tmp_path / "truth.hdf")).schema.names
    with h5py.File(tmp_path / "truth.hdf", "a") as file:
        labels = file.create_dataset("volumes/labels/neuron_ids", data=np.arange(24, dtype=np.uint64).reshape(2, 3, 4))
        labels.attrs["resolution"] = VOXEL
    found = read_truth(str(tmp_path / "truth.hdf"))
    assert (found["segment_pre"].to_pylist(), found["segment_post"].to_pylist()) == ([17], [21])


def test_truth_is_read_from_csv(tmp_path):
    truth = volume()[2]
    pyarrow.csv.write_csv(truth, tmp_path / "truth.csv")
    assert read_truth(str(tmp_path / "truth.csv"))["post_x"].to_pylist() == truth["post_x"].to_pylist()
    pyarrow.csv.write_csv(pa.table({"x": [1]}), tmp_path / "other.csv")
    with pytest.raises(InputError, match="pre_z"):
        read_truth(str(tmp_path / "other.csv"))
