import json

import pytest

from blockwise.errors import MissingError, ModelError
from tasks.synful.parameters import NetworkParameters

SETUP03 = {
    "input_size": [42, 430, 430],
    "downsample_factors": [[1, 3, 3], [1, 3, 3], [3, 3, 3]],
    "fmap_num": 4,
    "fmap_inc_factor": 5,
    "unet_model": "dh_unet",
    "learning_rate": 5e-05,
    "loss_comb_type": "sum",
    "m_loss_scale": 1.0,
    "d_loss_scale": 1.0,
    "reject_probability": 0.95,
    "blob_radius": 10,
    "max_iteration": 700000,
    "d_scale": 1,
    "cliprange": [0.0007, 0.9993],
    "voxel_size": [40, 4, 4],
}


def test_a_file_of_the_original(tmp_path):
    (tmp_path / "parameter.json").write_text(json.dumps(SETUP03))
    found = NetworkParameters.from_json(tmp_path / "parameter.json")
    assert (found.decoders, found.feature_maps, found.shape.product) == (2, (4, 20, 100, 500), (3, 27, 27))
    assert found.training["cliprange"] == [0.0007, 0.9993]
    assert {k: found.to_json()[k] for k in SETUP03} == SETUP03
    assert NetworkParameters.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_our_own_keys():
    found = NetworkParameters.from_json(
        {
            "fmap_num": 3,
            "fmap_inc_factor": 2,
            "downsample_factor": [[1, 2, 2]],
            "kernel_sizes": [[1, 3, 3], 3],
            "heads": ["mask"],
            "seed": 4,
        }
    )
    assert NetworkParameters.from_json({**SETUP03, "heads": ["vectors", "mask"]}) == NetworkParameters.from_json(SETUP03)
    assert (found.downsample_factors, found.kernel_sizes, found.heads) == (((1, 2, 2),), ((1, 3, 3), (3, 3, 3)), ("mask",))
    assert found.training == {"seed": 4}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"fmap_nun": 4}, "unknown keys fmap_nun"),
        ({"fmap_num": None}, "of a wrong form"),
        ({"fmap_num": 0}, "fmap_num 0, fmap_inc_factor 5: 1 or more"),
        ({"unet_model": "resnet"}, "vanilla or dh_unet is wanted"),
        ({"heads": ["mask"]}, "one of them only for a vanilla network"),
        ({"heads": []}, "heads"),
        ({"d_scale": 0}, "d_scale 0: above 0"),
        ({"downsample_factors": [[1, 3]]}, "three whole numbers"),
    ],
)
def test_what_no_network_has_is_refused(changes, why):
    with pytest.raises(ModelError, match=why):
        NetworkParameters.from_json({**SETUP03, **changes})


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingError, match="no parameters at"):
        NetworkParameters.from_json(tmp_path / "parameter.json")
    for text in ("{", "[1]", "{}"):
        (tmp_path / "parameter.json").write_text(text)
        with pytest.raises(ModelError, match=r"parameter\.json: "):
            NetworkParameters.from_json(str(tmp_path / "parameter.json"))
