import re

import pytest

from blockwise.errors import ConfigError, ModelError
from blockwise.models import Entry, Registry
from tasks.cascade.registry import registry, suggest
from tests.cascade.random_model import write_model


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKWISE_MODELS", str(tmp_path))


PUBLISHED = Registry("cascade", {n: e for n, e in registry().entries.items() if e.url})


@pytest.mark.parametrize(
    ("wishes", "name"),
    [
        ({"frame_rate": 30.5, "indicator": "GCaMP6f"}, "Global_EXC_30Hz_smoothing50ms_causalkernel"),
        ({"frame_rate": 30, "causal": False}, "Global_EXC_30Hz_smoothing50ms"),
        ({"frame_rate": 30, "smoothing": 0.1}, "Global_EXC_30Hz_smoothing100ms_causalkernel"),
        ({"frame_rate": 30, "inhibitory": True}, "Global_INH_30Hz_smoothing50ms"),
        ({"frame_rate": 7.6}, "Global_EXC_7.5Hz_smoothing200ms_causalkernel"),
        ({"frame_rate": 10}, "Global_EXC_10Hz_smoothing100ms_causalkernel"),
        ({"frame_rate": 16}, "Global_EXC_15Hz_smoothing100ms_causalkernel"),
    ],
)
def test_the_model_that_fits_best(wishes, name):
    assert suggest(PUBLISHED, **wishes).name == name


@pytest.mark.parametrize(
    ("wishes", "warning"),
    [
        ({"frame_rate": 22}, r"the nearest is for 20 Hz, 10% off, and more than 5% is refused"),
        ({"frame_rate": 30, "indicator": "GCaMP8m"}, "has no GCaMP8m"),
        ({"frame_rate": 30, "smoothing": 0.07}, "none with a smoothing of 70 ms"),
        ({"frame_rate": 30, "inhibitory": True, "causal": True}, "none with a causal kernel"),
    ],
)
def test_what_does_not_fit_is_said(wishes, warning):

    told = suggest(PUBLISHED, **wishes).warnings
    assert len(told) == 1
    assert re.search(warning, told[0])


@pytest.mark.parametrize(
    ("wishes", "fits"),
    [({"frame_rate": 31}, True), ({"frame_rate": 22}, False), ({"frame_rate": 30, "smoothing": 0.07}, True)],
    ids=str,
)
def test_a_rate_that_a_run_would_refuse_does_not_fit(wishes, fits):
    assert suggest(PUBLISHED, **wishes).fits is fits


def test_the_other_kind_of_cells_does_not_fit():
    name = "Global_EXC_30Hz_smoothing50ms"
    told = suggest(Registry("cascade", {name: Entry(name, "http://x/y")}), frame_rate=30, inhibitory=True)
    assert (told.name, told.fits) == (name, False)
    assert told.warnings == ("No model for interneurons is known at that rate.",)


def test_the_reason_says_whose_rate_it_is():
    assert "0.0% from the assumed 30 Hz" in suggest(PUBLISHED, frame_rate=30, whose="the assumed").reason


@pytest.mark.parametrize("indicator", ["GCaMP6f", "gcamp-6s", "OGB-1", "jRGECO1a", "Cal-520", None])
def test_known_indicators_pass_without_a_word(indicator):
    assert suggest(PUBLISHED, frame_rate=30, indicator=indicator).warnings == ()


def test_of_equals_the_one_on_this_machine_is_named(tmp_path):
    names = ("Global_EXC_30Hz_smoothing50ms_causalkernel", "blockwise_EXC_30Hz_smoothing50ms_causalkernel")
    models = Registry("cascade", {names[0]: Entry(names[0], "http://x/y"), names[1]: Entry(names[1], folder=tmp_path)})
    told = suggest(models, frame_rate=30)
    assert (told.name, told.present) == (names[1], True)
    assert "It is on this machine." in told.reason
    assert suggest(models, frame_rate=15, present=True).name == names[1]


def test_newer_families_are_understood():
    names = ("GC8_EXC_30Hz_smoothing50ms_high_noise", "GC8_EXC_30Hz_smoothing50ms", "Global_EXC_30Hz_smoothing50ms_causalkernel")
    models = Registry("cascade", {n: Entry(n, "http://x/y") for n in names})
    assert suggest(models, frame_rate=30, indicator="GCaMP8s").name == names[1]
    assert suggest(models, frame_rate=30).name == names[2]


def test_nothing_to_suggest_is_said():
    with pytest.raises(ConfigError, match="above 0"):
        suggest(PUBLISHED, frame_rate=0)
    with pytest.raises(ConfigError, match="no model to choose among"):
        suggest(PUBLISHED, frame_rate=30, present=True)


def test_shipped_models_are_in_the_registry():
    shipped = [e for e in registry().entries.values() if e.folder]
    assert all(e.present and e.url is None for e in shipped)


def test_a_fetched_model_is_read_before_it_gets_its_place(tmp_path):
    folder = write_model(tmp_path / "m")
    registry().check(folder)
    (folder / "Model_NoiseLevel_3_Ensemble_1.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        registry().check(folder)
