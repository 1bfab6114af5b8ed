"""Every preset is planned as it stands, in a folder that holds what it names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blockwise.config import load_config, with_places
from blockwise.run import plan

PRESETS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.toml"))
MODELS = {
    "Global_EXC_30Hz_smoothing50ms_causalkernel": {"sampling_rate": 30, "smoothing": 0.05, "causal_kernel": True},
    "OGB_zf_pDp_7.5Hz_smoothing200ms": {"sampling_rate": 7.5, "smoothing": 0.2},
}


def dff() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (5, 2000)).astype(np.float32)


def make_mat() -> None:
    from scipy.io import savemat

    savemat("recordings/monday.mat", {"dF_traces": dff()})


def make_zarr() -> None:
    import zarr

    zarr.create_group("day.zarr").create_array("dff", data=dff())


def make_ground_truth() -> None:
    from tests.cascade.ground_truth_folder import make_ground_truth as make

    make(Path("Ground_truth"), datasets=1, neurons=1)


def make_synful() -> None:
    from tests.synful.named import write_inputs, write_networks

    for write in (write_networks, write_inputs):
        write(Path())


def make_synful_demo() -> None:
    from tasks.synful.demo import write_volume

    write_volume(Path("demo-synful"))


INPUTS: dict[str, Callable[[], object]] = {
    "cascade": lambda: np.save("recording.npy", dff()),
    "cascade_set": make_mat,
    "cascade_long": make_zarr,
    "cascade_shared_ledger": lambda: np.save("recordings/monday.npy", dff()),
    "cascade_training": make_ground_truth,
    **dict.fromkeys((p.stem for p in PRESETS if "synful" in p.stem), make_synful),
    "demo-synful": make_synful_demo,
}


def make_model(name: str) -> None:
    """A model folder of random weights, in the working directory."""
    import torch

    from tasks.cascade.model_folder import member_stem, write_config, write_member
    from tasks.cascade.training import TrainingConfig, cascade_network, weights_of

    config = TrainingConfig(**MODELS[name])
    weights = weights_of(cascade_network(config, torch.Generator().manual_seed(0)))
    for level in (1, 2):
        write_member(Path(name, f"{member_stem(level, 0)}.safetensors"), weights)
    write_config(name, config, name=name, datasets=["DS90"], levels=[1, 2], members=1, finished=True)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.stem)
def test_preset_is_planned(preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("recordings").mkdir()
    INPUTS[preset.stem]()
    for name in MODELS if "synful" not in preset.stem else ():
        make_model(name)
    before = sorted(tmp_path.rglob("*"))
    found = plan(with_places(load_config(preset), tmp_path / preset.name), pilot_blocks=0)
    assert not found.refusals
    assert sorted(tmp_path.rglob("*")) == before, "a plan writes nothing"
