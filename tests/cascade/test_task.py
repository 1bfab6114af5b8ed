"""Cascade on blocks equals Cascade on arrays (G7), whatever the blocks; and what a run leaves beside its rates."""

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy.io import loadmat

from blockwise.config import RunConfig, load_config, validated, with_places
from blockwise.errors import BlockwiseError, ConfigError, DependencyError, MissingError
from blockwise.run import load_task, plan
from blockwise.testing import run_serially
from tasks import cascade
from tasks.cascade.discrete import discrete_row
from tasks.cascade.job import row_stream
from tasks.cascade.model import load_model
from tests.cascade.random_model import write_model
from tests.cluster import workers  # noqa: F401
from tests.runs import blockwise, configuration, traces
from tests.spikes.folders import suite2p_plane

SESSIONS = {"a": (6, 1500, 30.0), "b": (3, 700, 7.5), "c": (1, 90, 30.0), "d": (2, 40, 30.0), "e": (9, 200, 30.0)}
"""Neurons, frames, rate; d is shorter than a window."""


def damaged(name: str) -> np.ndarray:
    """Traces with a missing stretch, a row without values, and one that is flat."""
    neurons, frames, _ = SESSIONS[name]
    data = traces(neurons, frames, seed=ord(name))
    if name == "a":
        data[1, 600:640] = np.nan
        data[2] = np.nan
        data[3] = 0.25
    return data


def whole(data: np.ndarray, model: Path, **options: object) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cascade.predict(data, model, check=False, **options)


def same(got: np.ndarray, want: np.ndarray, tolerance: float = 1e-6) -> None:
    assert got.dtype == np.float32
    assert got.shape == want.shape
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.nanmax(np.abs(got - want), initial=0) <= tolerance


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models and the ragged set of recordings."""
    folder = tmp_path_factory.mktemp("scene")
    write_model(folder / "m30")
    write_model(folder / "m7", levels=(2,), sampling_rate=7.5, smoothing=0.1, causal_kernel=0)
    for name in SESSIONS:
        np.save(folder / f"{name}.npy", damaged(name))
    np.save(folder / "f.npy", damaged("b")[:, :150])
    return folder


def ragged(scene: Path) -> list[dict]:
    models = {30.0: "m30", 7.5: "m7"}
    return [{"path": str(scene / f"{n}.npy"), "frame_rate": rate, "model": str(scene / models[rate])} for n, (*_, rate) in SESSIONS.items()]


def short(scene: Path) -> list[dict]:
    """Two sessions short enough for discrete spikes, the first of more rows than one block of them."""
    sessions = ragged(scene)
    return [sessions[4], {**sessions[1], "path": str(scene / "f.npy")}]


def task_of(scene: Path, output: Path, *, sessions: list[dict] | None = None, shape: object = (4, 500), **options: object):
    values = {"input": {"sessions": sessions or ragged(scene)}, "output": {"path": str(output)}, "options": options}
    return load_task(validated(RunConfig, {"task": "cascade", "blocks": {"shape": shape}, **values}))


def rates_of(output: Path, name: str, array: str = "spike_rates") -> np.ndarray:
    return np.asarray(zarr.open_group(str(output), mode="r")[f"{name}/{array}"][...])


@pytest.mark.parametrize("threshold", [0, 1, False])
@pytest.mark.parametrize("shape", [(4, 500), (1, 97), (64, 8192), "auto"], ids=str)
def test_blocks_equal_the_whole(scene, tmp_path, threshold, shape):
    task = task_of(scene, tmp_path / "out", shape=shape, threshold=threshold, export=[])
    run_serially(task)
    for i, (name, (*_, rate)) in enumerate(SESSIONS.items()):
        model = scene / {30.0: "m30", 7.5: "m7"}[rate]
        same(rates_of(tmp_path / "out", name), whole(damaged(name), model, threshold=threshold))
        assert np.allclose(rates_of(tmp_path / "out", name, "noise_levels"), cascade.noise_levels(damaged(name), rate), equal_nan=True)
        assert task.job.models[i].frame_rate == rate


@pytest.mark.parametrize("options", [{"padding": 0.0}, {"alignment": 31}, {"threshold": 1, "padding": -1.0, "alignment": 20}], ids=str)
def test_options_are_those_of_predict(scene, tmp_path, options):
    run_serially(task_of(scene, tmp_path / "out", sessions=ragged(scene)[:1], export=[], **options))
    same(rates_of(tmp_path / "out", "a"), whole(damaged("a"), scene / "m30", **options))


def test_a_threshold_over_whole_rows_takes_blocks_of_whole_rows(scene, tmp_path):
    task = task_of(scene, tmp_path / "out", sessions=ragged(scene)[1:2], threshold=1, shape="auto")
    assert task.spec().shape[1] > 10**9
    assert task.spec().context == ((0, 0), (0, 0))
    assert task.outputs()[0].unit == (3, 700)


def test_a_session_of_another_model_leaves_the_grid_of_the_others(scene, tmp_path):
    write_model(tmp_path / "slow", sampling_rate=7.5, smoothing=0.2)
    other = {**ragged(scene)[1], "model": str(tmp_path / "slow")}
    specs = [task_of(scene, tmp_path / "out", sessions=s, threshold=1).spec() for s in (ragged(scene)[:1], [ragged(scene)[0], other])]
    assert specs[0] == specs[1]
    assert specs[0].context == ((0, 0), (64, 32))


@pytest.fixture(scope="module")
def discrete(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a serial run with discrete spikes."""
    output = tmp_path_factory.mktemp("discrete") / "out"
    run_serially(task_of(scene, output, discrete=True, seed=5, sessions=short(scene)))
    return output


def test_discrete_spikes_are_those_of_each_row_alone(scene, discrete):
    found = loadmat(discrete.parent / "discrete_spikes_e.mat")
    rates, model = rates_of(discrete, "e"), load_model(scene / "m30")
    spikes = 0
    for row, line in enumerate(rates):
        approximation, frames = discrete_row(line, model.sigma, row_stream(5, "e", row))
        assert np.allclose(found["discrete_approximation"][row], approximation, atol=1e-6, equal_nan=True)
        got = found["spike_time_estimates"][0, row].ravel()
        assert np.array_equal(got, np.sort(frames))
        assert rates_of(discrete, "e", "spike_counts")[row].sum() == len(frames)
        spikes += len(frames)
    assert spikes > 20


def test_discrete_spikes_do_not_depend_on_the_blocks(scene, discrete, tmp_path):
    run_serially(task_of(scene, tmp_path / "out", discrete=True, seed=5, shape=(1, 97), sessions=short(scene)[::-1]))
    for name in "ef":
        same(rates_of(tmp_path / "out", name), rates_of(discrete, name))
        counts = [rates_of(folder, name, "spike_counts") for folder in (tmp_path / "out", discrete)]
        assert np.array_equal(*counts)


def test_what_the_arrays_say_of_themselves(scene, discrete):
    group = zarr.open_group(str(discrete), mode="r")
    attributes = dict(group["f/spike_rates"].attrs)
    model = load_model(scene / "m7")
    assert attributes["unit"] == "expected spikes per frame"
    assert attributes["units"] == ["", "s"]
    assert attributes["voxel_size"] == [1.0, 1 / 7.5]
    assert (attributes["model"], attributes["model_sha256"], attributes["model_noise_levels"]) == ("m7", model.digest, [2])
    assert "10.1038/s41593-021-00895-5" in attributes["citation"]
    assert (attributes["source"], attributes["frame_rate_hz"]) == (str(scene / "f.npy"), 7.5)
    assert group["f/spike_rates"].metadata.dimension_names == ("neuron", "time")
    assert group["f/noise_levels"].attrs["unit"] == "% s^1/2"
    assert group["f/spike_counts"].attrs["seed"] == 5


def test_exports_bear_the_names_of_the_original(discrete):
    folder = discrete.parent
    kinds = ("predictions_{}.npy", "full_prediction_{}.mat", "discrete_spikes_{}.mat")
    assert {f.name for f in folder.iterdir()} == {"out", *(k.format(n) for k in kinds for n in "ef")}
    same(np.load(folder / "predictions_e.npy"), rates_of(discrete, "e"), 0)
    same(loadmat(folder / "full_prediction_f.mat")["spike_rates"], rates_of(discrete, "f"), 0)


@pytest.mark.parametrize(
    ("export", "limit", "names"), [("auto", 1e-4, set()), (["npy"], 1000, {"predictions_c.npy"}), ([], 1000, set())], ids=str
)
def test_exports_can_be_chosen(scene, tmp_path, export, limit, names):
    run_serially(task_of(scene, tmp_path / "out", sessions=ragged(scene)[2:3], export=export, export_max_mb=limit))
    assert {f.name for f in tmp_path.iterdir()} == names | {"out"}


def test_rates_go_back_into_a_suite2p_folder(scene, tmp_path):
    suite2p_plane(tmp_path / "plane0", rois=5, frames=300, cells=(0, 3), ops={"fs": 30.0})
    sessions = [{"path": str(tmp_path / "plane0"), "model": str(scene / "m30")}]
    run_serially(task_of(scene, tmp_path / "out", sessions=sessions, write_back=True, export=[]))
    back = np.load(tmp_path / "plane0" / "spks_cascade.npy")
    same(back[[0, 3]], rates_of(tmp_path / "out", "plane0"), 0)
    assert np.isnan(back[[1, 2, 4]]).all()
    assert np.isfinite(back[0]).any()


def test_workers_and_blocks_change_nothing(scene, discrete, tmp_path, workers):  # noqa: F811
    cluster = {"kind": "address", "address": workers.client.scheduler.address, "workers": 2}
    file = configuration(
        tmp_path,
        {
            "input": {"sessions": short(scene)},
            "options": {"discrete": True, "seed": 5},
            "blocks": {"shape": [2, 70]},
            "cluster": cluster,
        },
    )
    called = blockwise("run", file, "--json")
    assert called.code == 0, called.err
    assert [(s["name"], s["state"], s["main"]) for s in called.json["stages"]] == [
        ("noise", "done", False),
        ("cascade", "done", True),
        ("discrete", "done", False),
    ]
    for name in "ef":
        same(rates_of(tmp_path / "run.zarr", name), rates_of(discrete, name))
        for array in ("spike_counts", "discrete_approximation", "noise_levels"):
            assert np.array_equal(*(rates_of(o, name, array) for o in (tmp_path / "run.zarr", discrete)), equal_nan=True)


BAD = [
    ({"options": {"treshold": 1}}, ConfigError, "options.treshold.*did you mean 'threshold'"),
    ({"options": {"threshold": 2}}, ConfigError, "threshold 2: use 0"),
    ({"options": {"alignment": 64}}, ConfigError, "alignment 64.*window of 64"),
    ({"options": {"engine": "jax"}}, ConfigError, "options.engine.*torch"),
    ({"options": {"write_back": True}}, ConfigError, "write_back.*Suite2p"),
    ({"blocks": {"shape": [4]}}, ConfigError, r"shape \[4\].*2 sides"),
    ({"blocks": {"shape": [0, 100]}}, ConfigError, "at least 1"),
    ({"blocks": {"context": [[0, 0], [9, 9]]}}, ConfigError, "context and edge"),
    ({"blocks": {"edge": "snap"}}, ConfigError, "context and edge"),
    ({"model": {"path": None}}, ConfigError, "no model.*models suggest --frame-rate 30"),
    ({"model": {"path": "Global_EXC_30Hz_smoothing50ms_causalkernel"}}, MissingError, "blockwise models get Global"),
    ({"model": {"path": "Globall_EXC_30Hz_smoothing50ms"}}, MissingError, "did you mean 'Global_EXC_30Hz_smoothing50ms'"),
    ({"output": {"path": None}}, ConfigError, r"\[output\] path is not set"),
]


@pytest.mark.parametrize(("changes", "error", "text"), BAD, ids=lambda v: str(v)[:40])
def test_what_cannot_be_run_is_refused_with_words(scene, tmp_path, monkeypatch, changes, error, text):
    monkeypatch.setenv("BLOCKWISE_MODELS", str(tmp_path / "models"))
    values = {
        "task": "cascade",
        "input": {"path": str(scene / "a.npy"), "frame_rate": 30.0},
        "model": {"path": str(scene / "m30")},
        "output": {"path": str(tmp_path / "out")},
    }
    config = validated(RunConfig, {**values, **changes})
    with pytest.raises(error, match=text) as caught:
        plan(config, pilot_blocks=0).check()
    assert issubclass(caught.type, BlockwiseError)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_not_installed_is_refused_before_blocks_fail(scene, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # what Python itself keeps of a module that must not be found
    with pytest.raises(DependencyError, match=r"pip install -e '.\[tensorflow\]'"):
        task_of(scene, tmp_path / "out", engine="tensorflow")


def test_percent_is_taken_where_the_check_is_off(scene, tmp_path):
    np.save(tmp_path / "p.npy", 100 * traces())
    session = {"path": str(tmp_path / "p.npy"), "frame_rate": 30.0, "model": str(scene / "m30")}
    assert task_of(scene, tmp_path / "out", sessions=[session], check_percent=False).job.qualities[0].percent


def test_a_glob_leaves_out_what_runs_wrote(scene, tmp_path):
    """Exports and outputs beside the recordings must not become recordings."""
    np.save(tmp_path / "a.npy", damaged("a"))
    values = {"input": {"path": str(tmp_path / "*"), "frame_rate": 30.0}, "model": {"path": str(scene / "m30")}}
    config = with_places(validated(RunConfig, {"task": "cascade", **values}), tmp_path / "x.toml")
    from blockwise.claim import claim_output
    from blockwise.folder import RunFolder

    claim_output(config.output.path, RunFolder.make(tmp_path.parent / "x.run"), {})
    run_serially(load_task(config))
    assert (tmp_path / "predictions_a.npy").exists()
    assert [r.name for r in load_task(config).job.recordings] == ["a"]


def test_the_table_and_pictures_of_a_task(scene, tmp_path):
    task = task_of(scene, tmp_path / "out", export=[])
    described = task.describe()
    assert described["quality"][0][:4] == ["session", "neurons", "frames", "Hz"]
    assert [row[0] for row in described["quality"][1:]] == list(SESSIONS)
    assert any("NaN" in w for w in described["warnings"])
    run_serially(task)
    pictures = task.pictures()
    assert [p.title for p in pictures] == ["a", "e"]
    assert all(p.png.startswith(b"\x89PNG") and "noise levels" in p.caption for p in pictures)


@pytest.mark.parametrize(("rate", "stated"), [(30.0, True), (30.0, False), (12.5, True)], ids=str)
def test_init_writes_a_configuration_that_plan_takes_or_explains(tmp_path, monkeypatch, rate, stated):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOCKWISE_MODELS", str(tmp_path / "models"))
    if stated:
        array = zarr.create_array("rec.zarr", shape=(6, 1500), dtype="float32")
        array[...] = traces()
        array.attrs["frame_rate"] = rate
    else:
        np.save("rec.npy", traces())
    made = blockwise("init", "cascade", "rec.zarr" if stated else "rec.npy")
    assert made.code == 0, made.err
    Path("run.toml").write_text(made.out)
    assert "6 neurons x 1500 frames" in made.out
    assert ("CHECK IT" in made.out) != stated
    assert load_config("run.toml").input.frame_rate == rate
    planned = blockwise("plan", "run.toml", "--pilot", 0)
    if rate == 30:
        assert planned.code == 0, planned.err
    else:
        assert planned.code == 2
        name = load_config("run.toml").model.path
        assert "12.5Hz" in name
        assert f"blockwise models get {name}" in planned.err
        assert f"blockwise models get {name}" in made.out


@pytest.mark.parametrize(
    ("source", "options", "rate", "note", "reason"),
    [
        ("rec.npy", (), 30.0, "assumed: the file states none. CHECK IT", "from the assumed 30 Hz"),
        ("rec.npy", ("--frame-rate", 7.5), 7.5, "Hz, as given", "from your 7.5 Hz"),
        ("rec.zarr", (), 30.0, "Hz, as the file states", "from the file's 30 Hz"),
        ("rec.zarr", ("--frame-rate", 7.5), 7.5, "Hz, as given", "from your 7.5 Hz"),
    ],
    ids=str,
)
def test_init_says_where_the_frame_rate_comes_from(tmp_path, monkeypatch, source, options, rate, note, reason):
    monkeypatch.chdir(tmp_path)
    np.save("rec.npy", traces())
    zarr.create_array("rec.zarr", data=traces()).attrs["frame_rate"] = 30.0
    made = blockwise("init", "cascade", source, *options)
    Path("run.toml").write_text(made.out)
    assert load_config("run.toml").input.frame_rate == rate
    assert f"frame_rate = {rate:g}  # {note}" in made.out
    assert reason in made.out


@pytest.mark.parametrize(
    ("task", "rate", "words"), [("cascade", -1, "input.frame_rate: .*got -1"), ("cascade-training", 30, "--frame-rate 30: .* has none")]
)
def test_init_refuses_a_frame_rate_that_means_nothing(tmp_path, task, rate, words):
    np.save(tmp_path / "rec.npy", traces())
    made = blockwise("init", task, tmp_path / "rec.npy", "--frame-rate", rate)
    assert (made.code, made.out) == (2, "")
    assert re.search(words, made.err)


def test_init_of_a_set_with_several_rates_names_a_model_for_each(tmp_path, monkeypatch):
    import h5py

    monkeypatch.chdir(tmp_path)
    for name, rate in (("x", 30.0), ("y", 7.5)):
        with h5py.File(f"{name}.h5", "w") as file:
            file["dF_traces"], file["frame_rate"] = traces(), rate
    made = blockwise("init", "cascade", "*.h5")
    Path("run.toml").write_text(made.out)
    sessions = load_config("run.toml").input.sessions
    assert [(s.name, s.frame_rate) for s in sessions] == [("x", 30.0), ("y", 7.5)]
    assert "30Hz" in sessions[0].model
    assert "7.5Hz" in sessions[1].model
