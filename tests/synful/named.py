"""Files by the names that configurations and documents give them, small and made by the tests, in a folder."""

from pathlib import Path

import numpy as np

from tests.synful.runs import write_whole
from tests.synful.small import SIZE, noise, random_network, write_volume

NETWORKS = ("p_setup05", "p_setup10", "p_setup45", "p_setup51", "p_setup52", "p_setup54", "cremi_v01")
SHAPE = (16, 120, 124)


def write_networks(folder: Path) -> None:
    """Small networks of random weights under the names of the published ones."""
    for name in NETWORKS:
        (folder / name).mkdir()
        random_network(folder / name / "net.safetensors")


def write_inputs(folder: Path) -> None:
    """A raw volume, stored predictions, a segmentation with its bodies, and true partners."""
    write_volume(folder / "volume.zarr", SHAPE)
    mask = np.clip(noise(SHAPE) * 255, 0, 255).astype(np.uint8)
    write_whole(folder / "predictions.zarr", "volumes/pred_syn_indicator", mask, scale=255)
    write_whole(folder / "predictions.zarr", "volumes/pred_partner_vectors", np.full((3, *SHAPE), 20, np.int8), scale=0.25)
    segments = np.kron(np.arange(1, 4 * 4 * 4 + 1).reshape(4, 4, 4), np.ones((4, 30, 31), int)).astype(np.uint64)
    for name in ("supervoxels", "neuron_ids"):
        write_whole(folder / "segmentation.zarr", name, segments)
    (folder / "bodies.csv").write_text("supervoxel,body\n1,1\n2,1\n3,3\n")
    (folder / "truth.csv").write_text("pre_z,pre_y,pre_x,post_z,post_y,post_x\n440,100,160,440,120,200\n")


def write_cremi_sample(file: Path) -> None:
    """Simulated tissue as a CREMI file: raw, neuron_ids and annotated partners."""
    import h5py

    from tasks.synful.formats.cremi import write_cremi
    from tasks.synful.simulate import simulate_volume

    made = simulate_volume((12, 160, 160), SIZE, seed=3, synapses_per_um3=30)
    write_cremi(made.partners, file)
    with h5py.File(file, "a") as opened:
        for name, values in (("volumes/raw", made.raw), ("volumes/labels/neuron_ids", made.segmentation)):
            opened.create_dataset(name, data=values).attrs["resolution"] = SIZE
