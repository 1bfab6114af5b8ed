import shutil

import numpy as np
import pytest

from blockwise.errors import InputError, MissingError, ModelError
from tasks.cascade.model import load_model
from tests.cascade.random_model import write_model

NAN = float("nan")


def test_a_folder_becomes_a_model(tmp_path):
    model = load_model(write_model(tmp_path / "m", levels=(10, 2, 9), members=3, sampling_rate=7.5, smoothing=0.2))
    assert (model.name, model.frame_rate, model.sigma, model.causal, model.windowsize) == ("m", 7.5, 1.5, True, 64)
    assert list(model.levels) == [2, 9, 10]
    assert [f.name for f in model.levels[10]] == [f"Model_NoiseLevel_10_Ensemble_{k}.safetensors" for k in range(3)]
    assert (model.position, model.ends, len(model.members(9))) == (32, (32, 32), 3)


@pytest.mark.parametrize(
    ("window", "before_frac", "position", "ends"),
    [(64, 0.5, 32, (32, 32)), (65, 0.5, 32, (32, 32)), (76, 0.5, 38, (38, 38)), (64, 0.25, 16, (16, 48)), (64, 0.0, 0, (0, 64))],
)
def test_position_and_ends(tmp_path, window, before_frac, position, ends):
    model = load_model(write_model(tmp_path / "m", window=window, before_frac=before_frac))
    assert (model.position, model.ends) == (position, ends)


@pytest.mark.parametrize(
    ("levels", "noise", "chosen"),
    [
        # the published bins
        ((2, 3, 4), [0.1, 2.49, 2.5, 3.49, 3.5, 99.0], [2, 2, 3, 3, 4, 4]),
        # one level serves all, a gap goes to the nearest, half-way the higher
        ((2,), [0.5, 7.0], [2, 2]),
        ((2, 5), [2.6, 3.4, 3.5, 4.0], [2, 2, 5, 5]),
        # no level without a finite noise level
        ((2, 3), [NAN, float("inf"), 2.0], [-1, -1, 2]),
    ],
)
def test_the_level_that_serves_a_noise_level(tmp_path, levels, noise, chosen):
    assert load_model(write_model(tmp_path / "m", levels)).levels_for(np.array(noise)).tolist() == chosen


def test_h5_goes_before_safetensors_of_the_same_member(tmp_path):
    folder = write_model(tmp_path / "m", levels=(2,), members=1)
    (folder / "Model_NoiseLevel_2_Ensemble_0.h5").touch()
    assert [f.suffix for f in load_model(folder).levels[2]] == [".h5"]


def test_the_digest_follows_the_content(tmp_path):
    folder = write_model(tmp_path / "m")
    shutil.copytree(folder, tmp_path / "copy")
    before = load_model(folder).digest
    assert before == load_model(tmp_path / "copy").digest
    shutil.copy(folder / "Model_NoiseLevel_2_Ensemble_0.safetensors", folder / "Model_NoiseLevel_3_Ensemble_1.safetensors")
    assert load_model(folder).digest != before


@pytest.mark.parametrize("rate", [28.5, 30.0, 31.5])
def test_a_rate_within_five_percent_is_taken(tmp_path, rate):
    load_model(write_model(tmp_path / "m")).check_frame_rate(rate)


@pytest.mark.parametrize("rate", [28.4, 31.6, 7.5, NAN])
def test_another_rate_is_refused_with_both_numbers(tmp_path, rate):
    with pytest.raises(InputError, match=rf"{rate:g} Hz, but m was trained for 30 Hz"):
        load_model(write_model(tmp_path / "m")).check_frame_rate(rate)


def _without_checkpoints(folder):
    for file in folder.glob("Model_*"):
        file.unlink()


def _without_config(folder):
    (folder / "config.yaml").unlink()


def _configured(text):
    return lambda folder: (folder / "config.yaml").write_text(text)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_without_config, MissingError, "has no config.yaml"),
        (_without_checkpoints, MissingError, "holds no checkpoints"),
        (_configured("smoothing: 0.1"), ModelError, "lacks the key 'sampling_rate'"),
        (_configured("just text"), ModelError, "config.yaml cannot be used"),
        (_configured("sampling_rate: fast\nsmoothing: 0.1"), ModelError, "config.yaml cannot be used"),
        (_configured("sampling_rate: 0\nsmoothing: 0.1"), ModelError, "must be above 0"),
        (_configured("sampling_rate: 30\nsmoothing: 0.1\nbefore_frac: 1"), ModelError, "outside its window"),
    ],
)
def test_a_folder_that_cannot_be_used(tmp_path, damage, error, message):
    folder = write_model(tmp_path / "m")
    damage(folder)
    with pytest.raises(error, match=message):
        load_model(folder)


def test_weights_for_another_window_are_refused(tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "config.yaml").write_text("{sampling_rate: 30, smoothing: 0.05, windowsize: 76}")
    with pytest.raises(ModelError, match="ends in 2 time steps, which no window of 76 frames"):
        load_model(folder).members(2)


def test_a_name_is_looked_up_in_the_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKWISE_MODELS", str(tmp_path))
    write_model(tmp_path / "Global_EXC_30Hz_smoothing50ms")
    assert load_model("Global_EXC_30Hz_smoothing50ms").frame_rate == 30
    with pytest.raises(MissingError, match="blockwise models get Global_EXC_5Hz_smoothing200ms"):
        load_model("Global_EXC_5Hz_smoothing200ms")
    with pytest.raises(MissingError, match="did you mean 'Global_EXC_30Hz_smoothing50ms'"):
        load_model("Global_EXC_30Hz_smoothing51ms")
