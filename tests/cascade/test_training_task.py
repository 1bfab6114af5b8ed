import pickle

import numpy as np
import pytest
import torch

from blockwise.config import RunConfig
from blockwise.errors import BlockwiseError, ConfigError, FingerprintMismatch, MissingError
from blockwise.grid import Grid
from blockwise.testing import run_in
from tasks.cascade.model import load_model
from tasks.cascade.model_folder import read_config, read_member
from tasks.cascade.training import TrainingConfig, train_member
from tasks.cascade.training_task import CascadeTraining, flat, read_losses
from tasks.spikes.ground_truth import load_ground_truth
from tests.cascade.ground_truth_folder import QUICK, make_ground_truth


def configured(folder, output, **options) -> RunConfig:
    values = {**QUICK, "noise_levels": [3, 2], "ensemble_size": 2, **options}
    return RunConfig(task="cascade-training", input={"path": str(folder)}, output={"path": str(output)}, options=values)


@pytest.fixture(scope="module")
def ground_truth(tmp_path_factory):
    return make_ground_truth(tmp_path_factory.mktemp("ground_truth"))


def compute_all(task):
    """What a worker does, block by block, with one torch thread as the engine gives it here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        task.prepare()
        task.open()
        grid = Grid(task.domains(), task.spec())
        blocks = list(grid.blocks(np.arange(len(grid))))
        return blocks, [task.write(b, task.compute(task.read(b), task.setup("cpu"))) for b in blocks]
    finally:
        torch.set_num_threads(threads)


def test_blocks_are_levels_by_members_and_equal_the_function_on_arrays(ground_truth, tmp_path):
    task = pickle.loads(pickle.dumps(CascadeTraining.from_config(configured(ground_truth, tmp_path / "m"))))
    blocks, writes = compute_all(task)
    assert [task.read(b) for b in blocks] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    torch.set_num_threads(1)
    member = train_member(load_ground_truth(ground_truth), TrainingConfig(**QUICK), noise_level=3, member=1)
    assert np.array_equal(writes[3][0].data, flat(member.weights))
    for block, (write,) in zip(blocks, writes, strict=True):
        assert np.array_equal(task.stored(block)[0], write.data)


def test_finish_makes_a_model_that_inference_reads(ground_truth, tmp_path):
    task = CascadeTraining.from_config(configured(ground_truth, tmp_path / "m"))
    compute_all(task)
    assert read_config(tmp_path / "m")["training_finished"] == "Running"
    figures = task.finish().figures
    assert figures["complete"]
    assert {level: len(losses) for level, losses in figures["loss"].items()} == {"2": 2, "3": 2}
    model = load_model(tmp_path / "m")
    assert {level: len(files) for level, files in model.levels.items()} == {2: 2, 3: 2}
    assert all(f.suffix == ".h5" and f.with_suffix(".safetensors").exists() for files in model.levels.values() for f in files)
    assert (model.config["training_finished"], model.config["ensemble_size"]) == ("Yes", 2)
    assert model.config["training_datasets"] == ["DS90-simulated", "DS91-simulated", "DS92-simulated"]


def test_missing_members_are_seen(ground_truth, tmp_path):
    task = CascadeTraining.from_config(configured(ground_truth, tmp_path / "m"))
    blocks, _ = compute_all(task)
    (tmp_path / "m" / "Model_NoiseLevel_3_Ensemble_1.safetensors").unlink()
    assert task.stored(blocks[3]) is None
    assert not task.finish().figures["complete"]
    assert read_config(tmp_path / "m")["training_finished"] == "Running"


def test_the_engine_trains_and_a_second_run_computes_nothing(ground_truth, tmp_path):
    task = CascadeTraining.from_config(configured(ground_truth, tmp_path / "m"))
    outcome = run_in(tmp_path / "run", task, workers=1)
    assert (outcome.exit_code, outcome.status.blocks.done) == (0, 4)
    written = (tmp_path / "m" / "Model_NoiseLevel_2_Ensemble_0.safetensors").stat().st_mtime_ns
    again = run_in(tmp_path / "run", task, workers=1)
    assert again.status.blocks.executed == 4
    assert (tmp_path / "m" / "Model_NoiseLevel_2_Ensemble_0.safetensors").stat().st_mtime_ns == written


def test_the_fingerprint_follows_the_data_and_the_options(ground_truth, tmp_path):
    make_ground_truth(tmp_path / "gt", 2)
    task = CascadeTraining.from_config(configured(tmp_path / "gt", tmp_path / "m"))
    before = task.fingerprint(0)
    assert before == CascadeTraining.from_config(configured(tmp_path / "gt", tmp_path / "m", keras=False)).fingerprint(0)
    assert "keras" not in task.relevant_options()
    (tmp_path / "gt" / "DS90-simulated" / "cell0.npz").unlink()
    assert task.fingerprint(0) != before


def linear_network(config, generator):
    """A network of the user's own, as `network = "tests.cascade.test_training_task:linear_network"` names it."""

    class Linear(torch.nn.Conv1d):
        def forward(self, pieces):
            return super().forward(pieces[:, None])[:, 0]

    return Linear(1, 1, config.windowsize)


def test_a_network_of_ones_own_has_no_keras_files(ground_truth, tmp_path):
    name = f"{__name__}:linear_network"
    task = CascadeTraining.from_config(configured(ground_truth, tmp_path / "m", network=name, noise_levels=[2], ensemble_size=1))
    compute_all(task)
    task.finish()
    assert {p.suffix for p in (tmp_path / "m").iterdir()} == {".yaml", ".safetensors"}
    (path,) = (tmp_path / "m").glob("*.safetensors")
    assert set(read_member(path)) == {"weight", "bias"}
    assert len(read_losses(path)) == QUICK["nr_of_epochs"]


def test_the_plan_names_what_cannot_be_read(tmp_path):
    make_ground_truth(tmp_path / "gt", 1)
    (tmp_path / "gt" / "DS90-simulated" / "torn.npz").write_bytes(b"PK")
    task = CascadeTraining.from_config(configured(tmp_path / "gt", tmp_path / "m"))
    (warning,) = task.describe()["warnings"]
    assert "DS90-simulated/torn.npz" in warning


def test_another_model_in_the_output_folder_is_refused_with_both_values(ground_truth, tmp_path):
    CascadeTraining.from_config(configured(ground_truth, tmp_path / "m")).prepare()
    CascadeTraining.from_config(configured(ground_truth, tmp_path / "m"))
    with pytest.raises(FingerprintMismatch, match=r"smoothing = 0\.1, now 0\.2"):
        CascadeTraining.from_config(configured(ground_truth, tmp_path / "m", smoothing=0.2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_levels": [2, 2]}, "each noise level"),
        ({"noise_levels": []}, "each noise level"),
        ({"ensemble_sise": 3}, "did you mean 'ensemble_size'"),
        ({"training_datasets": ["DS77"]}, "no dataset DS77"),
        ({"network": "nowhere:function"}, "cannot be imported"),
    ],
)
def test_bad_options_fail_before_anything_is_written(ground_truth, tmp_path, options, message):
    with pytest.raises(BlockwiseError, match=message):
        CascadeTraining.from_config(configured(ground_truth, tmp_path / "m", **options))
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("section", "error"), [("input", ConfigError), ("output", ConfigError)])
def test_folders_must_be_named(ground_truth, tmp_path, section, error):
    config = configured(ground_truth, tmp_path / "m")
    with pytest.raises(error, match=r"\[input\] path"):
        CascadeTraining.from_config(config.model_copy(update={section: type(getattr(config, section))()}))
    with pytest.raises(MissingError):
        CascadeTraining.from_config(configured(tmp_path / "nowhere", tmp_path / "m"))


def test_the_template_is_a_configuration_that_lists_the_datasets(ground_truth):
    import tomllib

    text = CascadeTraining.template(str(ground_truth))
    config = RunConfig(**tomllib.loads(text))
    assert CascadeTraining.from_config(config).levels == (2, 3, 4, 5, 6, 7, 8)
    assert "#   DS91-simulated" in text


def test_plan_and_report_have_something_to_show(ground_truth, tmp_path):
    task = CascadeTraining.from_config(configured(ground_truth, tmp_path / "m"))
    shown = task.describe()
    assert (shown["trials per level"], shown["warnings"]) == ({2: "6 of 6 quiet enough", 3: "6 of 6 quiet enough"}, [])
    assert all(v > 0 for v in task.memory().values())
    (picture,) = task.pictures()
    assert picture.png.startswith(b"\x89PNG")
