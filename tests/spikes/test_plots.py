import io

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from tasks.spikes import plots
from tests.shared import shared

FRAME_RATE = 30.0


@pytest.fixture(params=["noise", "empty"])
def session(request):
    """Traces, rates and noise levels of five neurons, or of none that has a value."""
    random = np.random.default_rng(0)
    traces, rates = random.normal(0, 0.1, (5, 3000)), random.random((5, 3000)) ** 20
    rates[:, :32] = np.nan
    factor = np.nan if request.param == "empty" else 1.0
    return traces * factor, rates * factor, random.random(5) * factor


def pixels(figure):
    image = np.asarray(Image.open(io.BytesIO(plots.png(figure, dpi=40))).convert("RGB"))
    assert image.min() < 100, "nothing is drawn"
    return image


def labels(figure):
    return {text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel())}


def test_traces_come_in_two_columns_with_units(session):
    traces, rates, _ = session
    figure = plots.plot_traces(traces, FRAME_RATE, rates, [np.array([30, 60])] * 5, start_s=1)
    assert labels(figure) == {"", "dF/F", "rate (Hz)", "time (s)"}
    first = figure.axes[0]
    assert first.get_xlim() == (1, 51)
    assert len({round(axes.get_position().x0, 2) for axes in figure.axes[:6]}) == 2
    pixels(figure)


def test_spikes_lie_one_frame_after_their_count():
    figure = plots.plot_traces(np.zeros((1, 300)), FRAME_RATE, spikes=[np.array([29, 149, 1000])], duration_s=10)
    np.testing.assert_allclose(figure.axes[0].lines[1].get_xdata(), [1.0, 5.0])


def test_one_trace_needs_no_rates():
    figure = plots.plot_traces(np.zeros(100), FRAME_RATE, labels=["cell"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["cell"]
    assert labels(figure) == {"dF/F", "time (s)"}


def test_rates_are_drawn_in_hz():
    rates = np.zeros((1, 300))
    rates[0, 100] = 2.0
    twin = plots.plot_traces(np.zeros((1, 300)), FRAME_RATE, rates).axes[1]
    assert twin.lines[0].get_ydata().max() == 60.0
    assert [t.get_text() for t in twin.get_yticklabels()] == ["0", "60"]


def test_noise_histogram_has_100_bins_and_the_models_levels():
    noise = np.append(np.linspace(1, 5, 2000), 80.0)
    axes = plots.plot_noise_levels(noise, range(2, 9)).axes[0]
    assert len(axes.patches) == 100
    assert axes.get_xlim()[1] == pytest.approx(1.05 * np.percentile(noise, 99.9))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["median 3.00", "levels of the model, 2 to 8"]


def test_long_recordings_are_averaged_for_the_map():
    rates = np.tile(np.array([[0.0, 0.2]]), (3, 2500))
    image = plots.plot_rates(rates, FRAME_RATE).axes[0].images[0]
    assert image.get_array().shape == (3, 1000)
    np.testing.assert_allclose(image.get_array().mean(), 3.0)
    assert image.get_extent() == [0, 5000 / FRAME_RATE, 3, 0]


def test_a_session_fits_one_page(session):
    traces, rates, noise = session
    figure = plots.plot_session(traces, rates, noise, FRAME_RATE, levels=(2, 3), title="m1")
    assert {"neuron", "neurons", "rate (Hz)", "dF/F"} <= labels(figure)
    assert figure.get_suptitle() == "m1"
    pixels(figure)


@pytest.mark.parametrize("neurons", [1, 2])
def test_a_session_of_few_neurons_fits_too(neurons):
    data = np.ones((neurons, 50))
    pixels(plots.plot_session(data, data, np.ones(neurons), FRAME_RATE))


def test_figures_leave_the_backend_and_open_windows_alone():
    before = mpl.rcParams["backend"]
    plots.plot_rates(np.ones((2, 10)), FRAME_RATE)
    assert mpl.rcParams["backend"] == before


def test_published_example():
    golden = np.load(shared("golden/cascade/predict_30Hz_causal_allen.npz"))
    figure = plots.plot_session(golden["traces"], golden["pred_raw"], golden["noise_levels"], FRAME_RATE, levels=range(2, 9))
    assert pixels(figure).shape[1] == 480
