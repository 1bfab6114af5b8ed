"""Cascade against the original's own numbers: predictions, noise levels, networks, discrete spikes."""

import warnings
from collections import Counter

import numpy as np
import pytest

from blockwise.errors import BlockwiseWarning
from tasks.cascade import infer_discrete_spikes, load_model, noise_levels, predict
from tasks.cascade.discrete import Search, active_stretches
from tasks.cascade.engines import load_ensemble
from tests.shared import shared

M30, M7 = "Global_EXC_30Hz_smoothing50ms_causalkernel", "OGB_zf_pDp_7.5Hz_smoothing200ms"
MODELS = {
    "predict_30Hz_causal_allen": M30,
    "predict_30Hz_causal_noise_spread": M30,
    "predict_7p5Hz_ogb_traces01": M7,
    "predict_7p5Hz_ogb_traces04": M7,
}
OGB = ("pred_raw", "pred_thr0", "pred_thr1", "pred_thr1_pad0", "pred_thr0_pad0")
HELD = {
    "predict_30Hz_causal_allen": ("pred_raw", "pred_thr0_first10", "pred_thr1_pad0_first10", "pred_thrTrue_first3"),
    "predict_30Hz_causal_noise_spread": ("pred_raw", "pred_thr0", "pred_thr1_pad0"),
    "predict_7p5Hz_ogb_traces01": OGB,
    "predict_7p5Hz_ogb_traces04": OGB,
}
CALLS = {
    "pred_raw": (None, {"threshold": False}),
    "pred_thr0": (None, {}),
    "pred_thr1": (None, {"threshold": 1}),
    "pred_thr1_pad0": (None, {"threshold": 1, "padding": 0}),
    "pred_thr0_pad0": (None, {"padding": 0}),
    "pred_thr0_first10": (10, {}),
    "pred_thr1_pad0_first10": (10, {"threshold": 1, "padding": 0}),
    "pred_thrTrue_first3": (3, {"threshold": True}),
}


def golden(name):
    return np.load(shared(f"golden/cascade/{name}.npz"))


def model_of(name):
    return load_model(shared(f"data/spikes/cascade/Pretrained_models/{name}"))


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockwiseWarning)
        return predict(*args, **options)


@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in HELD.items() for call in calls])
def test_predictions(name, call):
    z = golden(name)
    rows, options = CALLS[call]
    served = (z["noise_model_used"] > 0)[:rows]
    got = quiet(z["traces"][:rows], model_of(MODELS[name]), **options)
    np.testing.assert_allclose(got[served], z[call][served], atol=5e-6, rtol=0)
    assert np.isnan(got[~served][:, 32:-32]).all()


@pytest.mark.parametrize("name", MODELS)
def test_noise_levels_and_the_models_they_choose(name):
    z, model = golden(name), model_of(MODELS[name])
    levels = noise_levels(z["traces"], model.frame_rate)
    np.testing.assert_allclose(levels, z["noise_levels"], rtol=1e-6)
    np.testing.assert_array_equal(np.maximum(model.levels_for(levels), 0), z["noise_model_used"])


def test_noise_levels_of_rows_with_gaps():
    z = golden("noise_levels_synthetic")
    np.testing.assert_allclose(noise_levels(z["traces"], 30), z["nl_30"], rtol=1e-12)
    np.testing.assert_allclose(noise_levels(z["traces"], 7.5), z["nl_7p5"], rtol=1e-12)
    np.testing.assert_allclose(noise_levels(z["traces"][0], 30), z["nl_1d"], rtol=1e-12)


@pytest.mark.parametrize("call", ["raw", "thr0"])
def test_missing_frames_spread_at_least_as_far(call):
    z = golden("predict_nan_cases")
    got = quiet(z["traces"], model_of(M30), threshold=False if call == "raw" else 0)
    rows = np.isfinite(noise_levels(z["traces"], 30))
    wanted, got = z[f"pred_{call}"][rows], got[rows]
    assert np.isnan(got[np.isnan(wanted)]).all()
    finite = ~np.isnan(got)
    np.testing.assert_allclose(got[finite], wanted[finite], atol=5e-6, rtol=0)
    assert np.isnan(got[0, 369:433]).all()
    assert np.isnan(got[0]).sum() == 64 + 64


@pytest.mark.parametrize("engine", ["torch", "tensorflow"])
@pytest.mark.parametrize(("name", "tag"), [(M30, "30Hz"), (M7, "7p5Hz")])
def test_every_checkpoint_on_single_windows(name, tag, engine):
    pytest.importorskip(engine)
    z, model = golden("network_windows"), model_of(name)
    for level, wanted in zip(z[f"levels_{tag}"].tolist(), z[f"out_{tag}"], strict=True):
        ensemble = load_ensemble(model.members(level), engine, "cpu")
        got = ensemble(z["windows"].reshape(-1))[:, ::64]  # windows across two of them are left out
        np.testing.assert_allclose(got, wanted, atol=5e-6)


def test_the_tensorflow_engine_predicts_the_same():
    pytest.importorskip("tensorflow")
    z = golden("predict_30Hz_causal_allen")
    got = predict(z["traces"][:3], model_of(M30), threshold=True, engine="tensorflow")
    np.testing.assert_allclose(got, z["pred_thrTrue_first3"], atol=5e-6, rtol=0)


def test_discrete_search_stage_by_stage():
    z = golden("discrete_stages")
    assert [list(s) for s in active_stretches(z["full_prob"], 1.5)] == z["slices"].tolist()
    search = Search(z["prob"], float(z["smoothing_frames"]), np.random.RandomState(0))
    assert search.fill(float(z["nb"])) == z["fill_counter"]
    for stage, step in (("fill", lambda: None), ("expl", search.explore), ("prune", search.prune)):
        step()
        assert search.spikes == z[f"{stage}_locs"].tolist()
        np.testing.assert_allclose(search.smoothed, z[f"{stage}_approx"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "model", "seed"), [("30Hz", M30, 0), ("7p5Hz", M7, 0), ("7p5Hz", M7, 1)])
def test_discrete_spikes(name, model, seed):
    z = golden(f"discrete_spikes_{name}")
    approximation, frames = infer_discrete_spikes(z["spike_rates"], model_of(model), seed=seed)
    wanted = np.split(z[f"spikes_seed{seed}"], z[f"spikes_seed{seed}_offsets"][1:-1])
    shared_spikes = sum((Counter(g.tolist()) & Counter(w.astype(int).tolist())).total() for g, w in zip(frames, wanted, strict=True))
    assert shared_spikes >= 0.95 * sum(map(len, wanted))
    np.testing.assert_array_equal(np.isnan(approximation), np.isnan(z[f"approx_seed{seed}"]))
