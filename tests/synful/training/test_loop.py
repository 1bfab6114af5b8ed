import json
import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from blockwise.errors import ConfigError, FingerprintMismatch, InputError, ModelError, RunActive
from tasks.synful import load_network
from tasks.synful.checkpoint import save_safetensors
from tasks.synful.training.cubes import Volume
from tasks.synful.training.loop import train
from tasks.synful.training.run_folder import TrainingFolder
from tests.synful.training.data import simulated, tiny, write_cremi


@pytest.fixture(scope="module")
def cube():
    return simulated()


def weights(path) -> dict[str, torch.Tensor]:
    return load_network(path).state_dict()


def same(a, b) -> bool:
    return all(torch.equal(x, b[k]) for k, x in a.items())


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, cube, precision):
    whole = train(tiny(max_iteration=5, precision=precision), tmp_path / "whole", cubes=[cube])
    for last in (2, 5):
        parts = train(tiny(max_iteration=last, precision=precision), tmp_path / "parts", cubes=[cube])
    assert same(weights(whole.checkpoint), weights(parts.checkpoint))
    losses = [TrainingFolder(tmp_path / f).lines("metrics.jsonl") for f in ("whole", "parts")]
    assert losses[0] == losses[1]
    assert [line["iteration"] for line in losses[0]] == [1, 2, 3, 4, 5]


def test_what_was_written_after_the_last_checkpoint_is_done_again(tmp_path, cube):
    first = train(tiny(max_iteration=5), tmp_path, cubes=[cube])
    wanted = weights(first.checkpoint)
    first.checkpoint.unlink()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 6, "lo')
    again = train(tiny(max_iteration=5), tmp_path, cubes=[cube])
    assert same(wanted, weights(again.checkpoint))
    assert [line["iteration"] for line in TrainingFolder(tmp_path).lines("metrics.jsonl")] == [1, 2, 3, 4, 5]


def test_a_finished_run_is_left_as_it_is(tmp_path, cube):
    first = train(tiny(), tmp_path, cubes=[cube])
    before = first.checkpoint.stat().st_mtime_ns
    assert train(tiny(), tmp_path, cubes=[cube]) == first
    assert first.checkpoint.stat().st_mtime_ns == before


def test_training_lowers_the_loss(tmp_path, cube):
    """A mask that one filter tells: what is darker than its surroundings."""
    raw = cube.raw.read(cube.raw.region)
    membranes = replace(cube, indicator=Volume.of((raw < 120).astype(np.uint8)), labels=None)
    changes = {"unet_model": "vanilla", "heads": ["mask"], "d_loss_scale": 0, "learning_rate": 1e-2, "initialisation": "he"}
    train(tiny(max_iteration=35, **changes), tmp_path, cubes=[membranes])
    losses = [line["loss"] for line in TrainingFolder(tmp_path).lines("metrics.jsonl")]
    assert np.median(losses[-5:]) < 0.8 * np.median(losses[:5])


def test_other_parameters_are_refused_unless_adopted(tmp_path, cube):
    train(tiny(max_iteration=2), tmp_path, cubes=[cube])
    with pytest.raises(FingerprintMismatch, match=r"learning_rate was 0.001, is 0.01.*--adopt learning_rate"):
        train(tiny(learning_rate=0.01), tmp_path, cubes=[cube])
    assert train(tiny(learning_rate=0.01), tmp_path, cubes=[cube], adopt=["learning_rate"]).iteration == 4


def test_a_folder_serves_one_process(tmp_path, cube):
    with TrainingFolder(tmp_path).held(), pytest.raises(RunActive, match="another process trains"):
        train(tiny(), tmp_path, cubes=[cube])


def test_a_signal_ends_with_a_checkpoint(tmp_path, cube):
    def stop(kind, figures):
        if figures["iteration"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    done = train(tiny(max_iteration=50, save_every=50), tmp_path, cubes=[cube], report=stop)
    assert (done.interrupted, done.iteration, done.checkpoint.name) == (True, 3, "train_net_checkpoint_3.pt")


def test_batches_that_are_not_finite_are_left_out(tmp_path, cube, monkeypatch):
    whole = cube.raw.fetch

    def spoiled(region):
        return np.full(region.shape, np.nan, np.float32) if broken else whole(region).astype(np.float32) / 255

    monkeypatch.setattr("tasks.synful.training.loop.MOST_SKIPPED", 3)
    lame = replace(cube, raw=Volume(cube.raw.region, np.dtype(np.float32), spoiled))
    broken = False
    first = train(tiny(max_iteration=2), tmp_path, cubes=[lame])
    before, broken = weights(first.checkpoint), True
    second = train(tiny(max_iteration=4), tmp_path, cubes=[lame])
    assert second.skipped == 2
    assert same(before, weights(second.checkpoint))
    with pytest.raises(ModelError, match="3 batches in a row had no finite loss"):
        train(tiny(max_iteration=9), tmp_path, cubes=[lame])


def test_going_on_from_other_weights(tmp_path, cube):
    first = train(tiny(max_iteration=2), tmp_path / "first", cubes=[cube])
    save_safetensors(load_network(first.checkpoint), tmp_path / "first.safetensors")
    tuned = tiny(max_iteration=1, learning_rate=1e-9, initial_weights=str(tmp_path / "first.safetensors"))
    found, start = (weights(p) for p in (train(tuned, tmp_path / "tuned", cubes=[cube]).checkpoint, first.checkpoint))
    assert all(torch.allclose(v, start[k], atol=1e-6) for k, v in found.items())
    with pytest.raises(ModelError, match=r"was trained with d_scale 0.02, the parameters say 1.0"):
        train(tuned.model_copy(update={"d_scale": None}), tmp_path / "other", cubes=[cube])
    with pytest.raises(ModelError, match="fmap_num is 2 in the checkpoint, 3"):
        train(tuned.model_copy(update={"fmap_num": 3}), tmp_path / "other", cubes=[cube])
    assert not (tmp_path / "other" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_comb_type": "product"},
        {"m_loss_type": "mean_squared_error", "activation": "relu", "clip_gradients": 0.5},
        {"d_transition_iteration": 2, "d_loss_type": "full"},
        {"heads": ["mask"], "unet_model": "vanilla", "d_loss_scale": 0},
        {"precision": "bf16", "batch_size": 2},
        {"crop_to_factor": True},
    ],
    ids=lambda c: next(iter(c)),
)
def test_options_train(tmp_path, cube, changes):
    parameters = tiny(max_iteration=2, **changes)
    done = train(parameters, tmp_path, cubes=[cube])
    assert (done.iteration, done.skipped) == (2, 0)
    network = load_network(done.checkpoint)
    assert network.activation == ("relu" if parameters.activation else "sigmoid")


def test_workers_make_the_same_samples(tmp_path, cube):
    here, there = (train(tiny(max_iteration=3, workers=n), tmp_path / str(n), cubes=[cube]) for n in (0, 2))
    assert same(weights(here.checkpoint), weights(there.checkpoint))


def test_validation_is_logged(tmp_path, cube):
    seen = []
    parameters = tiny(max_iteration=2, validation={"every": 1, "threshold": 0.5})
    train(parameters, tmp_path, cubes=[cube], judged=[cube], report=lambda kind, figures: seen.append(kind))
    lines = TrainingFolder(tmp_path).lines("validation.jsonl")
    assert [line["iteration"] for line in lines] == [1, 2]
    assert lines[0]["true_positives"] + lines[0]["false_negatives"] == len(cube.pairs)
    assert seen == ["metrics", "validation"] * 2


def test_an_input_that_the_network_cannot_take_is_refused(tmp_path, cube):
    with pytest.raises(InputError, match="the nearest are"):
        train(tiny(input_size=[6, 3, 3]), tmp_path, cubes=[cube])
    assert not list(tmp_path.iterdir())


def test_the_parameters_are_kept(tmp_path, cube):
    train(tiny(), tmp_path, cubes=[cube])
    assert json.loads((tmp_path / "parameter.json").read_text())["fmap_num"] == 2


def test_a_network_keeps_what_it_was_trained_with(tmp_path, cube):
    """Voxel size and grey values, by which a run warns, resamples and matches."""
    kept = load_network(train(tiny(max_iteration=1), tmp_path, cubes=[cube]).checkpoint).config.training
    raw = cube.raw.read(cube.raw.region) / 255
    assert (kept["voxel_size"], kept["input_size"]) == ([40, 8, 8], [6, 52, 52])
    assert {p: pytest.approx(np.percentile(raw, float(p)), abs=0.03) for p in kept["raw_percentiles"]} == kept["raw_percentiles"]


def test_workers_leave_signals_to_the_trainer(tmp_path, cube):
    """A terminal or a scheduler sends them to every process: the checkpoint needs the batches that workers have begun."""
    raw, labels = (v.read(v.region) for v in (cube.raw, cube.labels))
    file = write_cremi(tmp_path / "a.hdf", raw, labels, cube.pairs)

    def stop(kind, figures):
        if figures["iteration"] == 3:
            for process in [*multiprocessing.active_children(), multiprocessing.process.current_process()]:
                for number in (signal.SIGINT, signal.SIGTERM):
                    os.kill(process.pid, number)
        if figures["iteration"] == 2:
            assert len(multiprocessing.active_children()) == 1
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGTERM)

    parameters = tiny(max_iteration=50, save_every=50, workers=1, prefetch=1, cubes=[{"raw": str(file)}])
    done = train(parameters, tmp_path / "run", report=stop)
    assert (done.interrupted, done.iteration) == (True, 3)


def test_a_start_without_a_checkpoint_begins_anew(tmp_path, cube):
    """After a kill before the first checkpoint: no line twice, none glued to a torn one, no snapshot of what was not done."""
    folder = TrainingFolder(tmp_path)
    train(tiny(max_iteration=4, snapshot_every=1), tmp_path, cubes=[cube])
    for file in folder.checkpoints().values():
        file.unlink()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 5, "lo')
    train(tiny(max_iteration=2, snapshot_every=1, keep_snapshots=1), tmp_path, cubes=[cube])
    assert [line["iteration"] for line in folder.lines("metrics.jsonl")] == [1, 2]
    assert list(folder.snapshots()) == [1]


def test_what_a_kill_left_half_written_is_removed(tmp_path, cube):
    """A checkpoint of a large network is a gigabyte."""
    left = tmp_path / ".train_net_checkpoint_4.pt.0a.partial"
    left.touch()
    os.utime(left, (0, 0))
    train(tiny(max_iteration=1), tmp_path, cubes=[cube])
    assert not left.exists()


def test_a_resumed_run_does_not_need_the_weights_it_began_with(tmp_path, cube):
    first = train(tiny(max_iteration=1), tmp_path / "first", cubes=[cube])
    save_safetensors(load_network(first.checkpoint), tmp_path / "first.safetensors")
    tuned = {"initial_weights": str(tmp_path / "first.safetensors"), "save_every": 1}
    train(tiny(max_iteration=1, **tuned), tmp_path / "tuned", cubes=[cube])
    (tmp_path / "first.safetensors").unlink()
    assert train(tiny(max_iteration=2, **tuned), tmp_path / "tuned", cubes=[cube]).iteration == 2


@pytest.mark.parametrize(("mask", "error", "words"), [(None, ConfigError, "nothing to judge"), (0, InputError, "is 0 wherever")])
def test_a_validation_of_nothing_is_refused(tmp_path, cube, mask, error, words):
    held_out = None if mask is None else Volume.of(np.zeros(cube.raw.region.shape, np.uint8))
    with pytest.raises(error, match=words):
        train(tiny(validation={"every": 1}), tmp_path / "run", cubes=[replace(cube, validation_mask=held_out)])
    assert not (tmp_path / "run").exists()
