"""Synful over blocks: equal to the whole volume, whatever the blocks, in every mode; what is left out is left out."""

import pathlib

import numpy as np
import pytest

from blockwise.config import RunConfig, validated
from blockwise.errors import ConfigError, InputError, ModelError
from blockwise.geometry import Region
from blockwise.grid import Grid
from blockwise.storage import OutputArray, group_attributes, open_source
from blockwise.testing import run_serially
from tasks.synful.cells import read_partners
from tasks.synful.partners import POST, PRE, ordered, points
from tasks.synful.task import ExtractedSynful, Synful
from tasks.synful.volume_stages import Spanning, read_tile
from tests.synful.small import OFFSET, SIZE, random_network, write_volume

SHAPE = (20, 100, 108)
FLOATS = {"mask_dtype": "float32", "mask_scale": 1, "vectors_dtype": "float32", "vectors_scale": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a network and a volume."""
    folder = tmp_path_factory.mktemp("synful")
    random_network(folder / "net.safetensors")
    write_volume(folder / "raw.zarr", SHAPE)
    return folder


@pytest.fixture(scope="module")
def run(place):
    """Runs a configuration in this process; returns its task and its partners."""
    count = iter(range(1000))

    def go(blocks=(20, 100, 108), task=Synful, source=None, model="net.safetensors", **options):
        made = task.from_config(configuration(place, blocks, next(count), source, model, options))
        run_serially(made)
        return made, ordered(read_partners(f"{made.job.output}/partners.parquet"))

    return go


def configuration(place, blocks, number, source, model, options):
    source = source or {"path": str(place / "raw.zarr")}
    extract = {"threshold": 0.5, "context": 24} | options.pop("extract", {})
    values = {
        "task": "synful",
        "input": source,
        "model": {"path": str(place / model)},
        "output": {"path": str(place / f"{number}.zarr")},
        "blocks": {"shape": blocks},
        "options": options | {"extract": extract},
    }
    return validated(RunConfig, values)


@pytest.fixture(scope="module")
def whole(run):
    return run()[1]


def counts_of(task):
    return task.counts(Spanning(task.job, task.extracting()))[-1].result().to_pydict()


def assert_same(found, wanted):
    for name in ("id", *PRE, *POST):
        assert found[name].equals(wanted[name]), name
    np.testing.assert_allclose(found["score"].to_numpy(), wanted["score"].to_numpy(), atol=1e-3)


@pytest.mark.parametrize("blocks", [(8, 40, 40), (3, 24, 56)])
def test_blocks_give_the_partners_of_the_whole_volume(run, whole, blocks):
    task, found = run(blocks)
    counts = counts_of(task)
    assert counts["seeds"][0] > 5, "no component spans blocks: the test shows nothing"
    assert found.num_rows > 500
    assert_same(found, whole)


@pytest.mark.parametrize("blocks", [(8, 40, 40), (4, 4, 8)])
def test_stored_predictions_give_the_same(run, whole, blocks):
    task, found = run(blocks, mode="stored", store=FLOATS)
    assert_same(found, whole)
    assert group_attributes(task.job.output)["synful"]["normalize"] == "dtype"


def test_predictions_alone(place):
    task = Synful.from_config(configuration(place, (20, 100, 108), "alone", None, "net.safetensors", {"mode": "predict"}))
    assert [s.name for s in task.stages()] == ["synful", "tiles/reduce-1"]
    run_serially(task)
    assert open_source(task.job.output, "volumes/pred_syn_indicator").read(Region((0, 0, 0), SHAPE)).any()
    assert not list(place.glob("alone.zarr/*.parquet"))
    assert not task.pictures()


def test_local_maxima_across_blocks(run):
    radius = {"method": "nms", "nms_radius": (40, 12, 12), "context": 48}
    one, many = run(extract=radius)[1], run((8, 40, 40), extract=radius)[1]
    assert one.num_rows > 300
    assert_same(many, one)


def test_predictions_of_another_run_are_extracted_with_their_scale(run):
    stored, kept = run((8, 40, 40), mode="stored")
    assert open_source(stored.job.output, "volumes/pred_partner_vectors").dtype == np.int8
    task, found = run((20, 50, 50), task=ExtractedSynful, source={"path": stored.job.output})
    assert task.job.predictions.mask_scale == 255
    assert_same(found, kept)


def test_integers_without_a_scale_are_refused(run, place):
    for name, lead in (("mask", ()), ("vectors", (3,))):
        OutputArray.create(
            place / "bare.zarr", f"volumes/{name}", shape=(*lead, *SHAPE), dtype="uint8", chunks=(*lead, *SHAPE),
            axes=(*("c" for _ in lead), "z", "y", "x"), voxel_size=(*lead, *SIZE),
        )  # fmt: skip
    names = {"mask": "volumes/mask", "vectors": "volumes/vectors"}
    with pytest.raises(InputError, match="without the attribute `scale`"):
        run(task=ExtractedSynful, source={"path": str(place / "bare.zarr")}, store=names)


def test_a_region_of_interest_leaves_the_rest_out(run, whole):
    low, size = np.array(OFFSET) + np.array((160, 100, 100)), np.array((400, 200, 160))
    task, found = run((8, 40, 40), volume={"roi_offset": tuple(low), "roi_shape": tuple(size)})
    post = points(whole, "post")
    assert_same(found, whole.filter(((post >= low) & (post < low + size)).all(axis=1)))
    assert task.job.block_mask(np.arange(len(task.job.grid))).sum() < len(task.job.grid)


@pytest.mark.parametrize("method", [{}, {"method": "nms", "nms_radius": (40, 12, 12), "context": 48}])
def test_components_that_begin_in_a_block_left_out_are_found(run, method):
    """The region begins in the middle, where blocks begin too, so nothing before it is computed."""
    low, size = np.array(OFFSET) + np.array((320, 160, 160)), np.array((480, 240, 272))
    box = {"roi_offset": tuple(low), "roi_shape": tuple(size)}
    one = run(volume=box, extract=method)[1]
    for blocks in ((8, 40, 40), (4, 20, 40)):
        task, found = run(blocks, volume=box, extract=method)
        assert counts_of(task)["seeds"][0] > 5 or method
        assert_same(found, one)


@pytest.fixture(scope="module")
def half(place):
    """A volume whose second half is of one grey value."""
    array = OutputArray.create(
        place / "half.zarr", "raw", shape=(20, 100, 200), dtype="uint8", chunks=(20, 100, 100), axes=("z", "y", "x"), voxel_size=SIZE,
        offset=OFFSET, units=("nm",) * 3,
    )  # fmt: skip
    raw = open_source(str(place / "raw.zarr"), "raw").read(Region((0, 0, 0), (20, 100, 100)))
    array.write(Region((0, 0, 0), (20, 100, 100)), raw).future.result()
    return {"path": str(place / "half.zarr")}


def figures_of(task):
    return {name: figure for s in task.stages() if (end := s.finish()) for name, figure in end.figures.items()}


def test_blocks_of_one_grey_value_need_no_network_in_any_mode(run, place, half):
    fused, stored = run((8, 40, 40), source=half)[0], run((8, 40, 40), source=half, mode="stored")[0]
    counts = counts_of(fused)
    assert 0 < counts["constant"][0] < counts["blocks"][0]
    kept = Synful.from_config(configuration(place, (8, 40, 40), "kept", half, "net.safetensors", {"mode": "predict"}))
    run_serially(kept)
    wanted = sum(
        read_tile(kept.job.raw.open(), b, skip_constant=True) is None for b in Grid(kept.domains(), kept.spec()).blocks(np.arange(45))
    )
    for task in (stored, kept):
        assert task.tile_counts()[-1].result().to_pylist() == [{"blocks": 45, "constant": wanted}]
        assert figures_of(task)["blocks of one grey value"] == wanted > 9
    assert figures_of(fused)["blocks of one grey value"] == counts["constant"][0]


def test_two_networks_give_what_one_gives(run, place, whole):
    network = random_network(place / "two.safetensors")
    assert network.config.heads == ("mask", "vectors")
    assert_same(run((8, 40, 40), network={"vectors": str(place / "two.safetensors")})[1], whole)


def test_mirrored_inputs_are_averaged(run, whole):
    found = run((8, 40, 40), network={"flips": "yx"})[1]
    assert found.num_rows != whole.num_rows
    assert_same(found, run(network={"flips": "yx"})[1])


def test_bf16_is_near(run, whole):
    found = run(network={"precision": "bf16"})[1]
    assert abs(found.num_rows - whole.num_rows) < 0.3 * whole.num_rows


def test_compat_tiles_have_their_own_phase(run, place, whole):
    found = run((18, 76, 76), grid="compat")[1]
    assert 0.5 < found.num_rows / whole.num_rows < 2


def test_what_compat_tiles_disagree_on_is_told(run):
    task, _ = run((4, 18, 18), grid="compat", extract={"threshold": 0.3, "context": 12})
    told = next(s for s in task.stages() if s.name == "collect").finish()
    assert told.figures["left out at seams of tiles"] == counts_of(task)["different"][0] > 0
    assert "predict differently around their cores: at least " in told.warnings[0]


@pytest.mark.parametrize("method", ["percentile", "section"])
def test_grey_values_of_the_whole_volume_decide(run, method):
    one, many = run(volume={"normalize": method})[1], run((8, 40, 40), volume={"normalize": method})[1]
    assert_same(many, one)


def test_components_beyond_the_largest_are_reported_not_merged(run, whole):
    task, found = run((8, 40, 40), extract={"max_blob_um": 0.05})
    assert found.num_rows < whole.num_rows
    collect = next(s for s in task.stages() if s.name == "collect")
    assert collect.finish().figures["oversized"] == counts_of(task)["oversized"][0] > 0
    assert "longer than max_blob_um" in collect.finish().warnings[0]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"blocks": (8, 42, 40)}, ConfigError, r"multiple of the pooling \[1, 4, 4\], e.g. \[8, 40, 40\]"),
        ({"blocks": (8, 40)}, ConfigError, "3 sides"),
        ({"blocks": (8, 40, 4)}, ConfigError, r"\[8, 40, 4\] voxels is smaller than the context of the extraction, \[1, 8, 8\]"),
        ({"extract": {"method": "nms"}}, ConfigError, "nms_radius is needed"),
        ({"extract": {"method": "nms", "nms_radius": (40, 40, 40), "context": 24}}, ConfigError, "set context to at least"),
        ({"network": {"activation": "tanh"}}, ConfigError, "activation"),
        ({"source": {"path": "raw.zarr", "voxel_size": (40.0, 6.0, 6.0)}}, InputError, "50% off"),
        ({"volume": {"roi_offset": (0, 0, 0)}}, ConfigError, "go together"),
        ({"source": {"path": "raw.zarr", "offset": (-40.0, 0, 0)}}, InputError, r"begins at \[-40.0, 0.0, 0.0\] nm, and ids"),
        ({"volume": {"mask": "bare.npy"}}, InputError, r"voxel size of mask .*bare.npy is not known"),
        ({"map": {"segmentation": "bare.npy"}}, InputError, r"voxel size of segmentation .*its shape \(2, 3, 4\) is not the volume's"),
        ({"evaluate": {"truth": "t.csv", "by": "body"}}, ConfigError, "set map.bodies"),
        ({"evaluate": {"truth": "t.csv", "by": "none", "drop_same_id": True}}, ConfigError, "drop_same_id needs ids"),
        ({"evaluate": {"truth": "bare.csv", "by": "none"}}, InputError, r"bare.csv"),
        (
            {"evaluate": {"truth": "sites.csv"}, "map": {"segmentation": "raw.zarr"}},
            InputError,
            "needs the columns segment_pre, segment_post",
        ),
        ({"mode": "predict", "exports": ("csv",)}, ConfigError, "finds no partners, so exports cannot be"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_numbers(run, place, monkeypatch, change, error, words):
    monkeypatch.chdir(place)
    np.save("bare.npy", np.ones((2, 3, 4), np.uint8))
    pathlib.Path("bare.csv").write_text("a,b\n1,2\n")
    pathlib.Path("sites.csv").write_text("pre_z,pre_y,pre_x,post_z,post_y,post_x\n480,100,200,520,120,220\n")
    with pytest.raises(error, match=words):
        run(**change)


def test_a_checkpoint_of_something_else_is_refused(run, place):
    np.savez(place / "other.npz", a=np.zeros(3))
    with pytest.raises(ModelError):
        run(model="other.npz")


def test_split_components_do_not_depend_on_blocks(run, whole):
    wishes = {"split_distance": 30, "prominence": 0.02}
    one, many = run(extract=wishes)[1], run((8, 40, 40), extract=wishes)[1]
    assert one.num_rows > whole.num_rows
    assert_same(many, one)
