from io import BytesIO

import numpy as np
import pytest

from blockwise.errors import InputError, MissingError
from tasks.synful.training.loop import train
from tasks.synful.training.run_folder import TrainingFolder
from tasks.synful.training.snapshots import read_snapshot, render_snapshot
from tests.synful.training.data import simulated, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(tiny(max_iteration=4, snapshot_every=1, keep_snapshots=3, seed=1), folder, cubes=[simulated()])
    return folder


def test_the_last_are_kept(run):
    folder = TrainingFolder(run)
    assert list(folder.snapshots()) == [1, 2, 3]
    assert folder.snapshot(-1) == folder.snapshot(3)
    with pytest.raises(MissingError, match="iterations with one: 1, 2, 3"):
        folder.snapshot(0)


def test_what_a_snapshot_holds(run):
    arrays = read_snapshot(TrainingFolder(run).snapshot(-1))
    shape = arrays["indicator"].shape
    assert arrays["raw"].shape == (6, 52, 52)
    assert arrays["predicted_vectors"].shape == arrays["vectors_gradient"].shape == (3, *shape)
    assert 0 <= arrays["probability"].min() <= arrays["probability"].max() <= 1
    wrong = np.sign(arrays["probability"] - arrays["indicator"])
    judged = arrays["mask_gradient"] != 0  # beyond what is annotated nothing is learned
    assert (np.sign(arrays["mask_gradient"]) == wrong)[judged].all(), "the gradient points from the truth to the prediction"
    assert judged.mean() > 0.2


def test_a_snapshot_as_a_picture(run):
    from PIL import Image

    picture = np.asarray(Image.open(BytesIO(render_snapshot(run, -1))).convert("L"))
    assert min(picture.shape) > 500
    assert picture.std() > 20


def test_a_section_that_is_not_there_is_named(run):
    with pytest.raises(InputError, match=r"sections 0 to \d+ of output, not 99"):
        render_snapshot(run, -1, section=99)


def test_a_run_without_snapshots_says_so(tmp_path):
    with pytest.raises(MissingError, match="set `snapshot_every`"):
        render_snapshot(tmp_path)


def test_another_file_is_no_snapshot(tmp_path):
    (tmp_path / "a.hdf").write_text("no")
    with pytest.raises(InputError, match="is no snapshot"):
        read_snapshot(tmp_path / "a.hdf")
