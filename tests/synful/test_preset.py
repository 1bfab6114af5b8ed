"""What `blockwise init` prints for Synful is planned as it stands."""

import pytest

from blockwise.config import load_config, with_places
from blockwise.errors import MissingError
from blockwise.run import plan
from tasks.synful.preset import extraction_template
from tests.synful.named import write_inputs


def test_a_configuration_for_stored_predictions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    text = extraction_template("predictions.zarr")
    assert "16 x 120 x 124 voxels" in text
    assert "255 and 0.25 here" in text
    (tmp_path / "run.toml").write_text(text)
    found = plan(with_places(load_config(tmp_path / "run.toml"), tmp_path / "run.toml"), pilot_blocks=0)
    assert found.task == "synful-extract"


def test_a_voxel_size_that_is_not_known_is_assumed_and_said(tmp_path):
    import zarr

    group = zarr.create_group(str(tmp_path / "p.zarr"))
    for name, shape in (("pred_syn_indicator", (4, 8, 8)), ("pred_partner_vectors", (3, 4, 8, 8))):
        group.create_array(f"volumes/{name}", shape=shape, dtype="float32")
    assert "voxel_size = [40.0, 4.0, 4.0]     # nm, z y x; ASSUMED" in extraction_template(str(tmp_path / "p.zarr"))


def test_a_volume_without_predictions_is_refused(tmp_path):
    write_inputs(tmp_path)
    with pytest.raises(MissingError, match="pred_syn_indicator"):
        extraction_template(str(tmp_path / "volume.zarr"))
