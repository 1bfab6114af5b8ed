import pytest
import torch

from blockwise.errors import InputError, ModelError
from tasks.synful import memory
from tasks.synful.network import UNet, known_activation
from tasks.synful.parameters import NetworkParameters

FACTORS = ((1, 2, 2), (2, 3, 3))
FLAT = ((1, 3, 3), (1, 3, 3), (3, 3, 3))


def network(seed=0, **changes):
    torch.manual_seed(seed)
    return UNet(NetworkParameters(**{"fmap_num": 3, "fmap_inc_factor": 2, "downsample_factors": FACTORS, **changes}), activation="sigmoid")


def raw(shape, count=1):
    return torch.rand((count, 1, *shape), generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"unet_model": "dh_unet"},
        {"kernel_sizes": FLAT},
        {"crop_to_factor": True},
        {"downsample_factors": ()},
        {"downsample_factors": ((2, 2, 2),), "unet_model": "dh_unet", "kernel_sizes": ((3, 1, 1), (1, 1, 1))},
    ],
)
def test_slabs_give_what_all_at_once_gives(changes, monkeypatch):
    made = network(**changes)
    x = raw([n + k * p for n, k, p in zip(made.shape.smallest_input, (3, 1, 1), made.shape.product, strict=True)], 2)
    whole = made(x)
    monkeypatch.setattr(memory, "SLAB_BYTES", {"cpu": 1})
    monkeypatch.setattr(memory, "LEAST_SECTIONS", 3)
    with torch.inference_mode():
        lean = made(x)
    assert set(whole) == {"mask_logits", "vectors"}
    for name, channels in (("mask_logits", 1), ("vectors", 3)):
        assert lean[name].shape == (2, channels, *made.shape.output_shape(x.shape[2:]))
        torch.testing.assert_close(lean[name], whole[name].detach(), atol=1e-6, rtol=1e-5)


def test_an_input_that_poolings_do_not_divide_is_as_the_originals():
    made = network()
    x = raw([n + 1 for n in made.shape.smallest_input])
    with torch.inference_mode():
        torch.testing.assert_close(made(x)["vectors"], made(x.clone().requires_grad_())["vectors"])
    torch.testing.assert_close(made(x)["vectors"].shape[2:], torch.Size(made.shape.output_shape(x.shape[2:])))


@pytest.mark.parametrize("changes", [{}, {"kernel_sizes": FLAT, "unet_model": "dh_unet"}])
@pytest.mark.parametrize("cells", [(1, 2, 3), (2, 3, 2)])
def test_aligned_tilings_agree(changes, cells):
    """Logits of cores of any shape are those of the whole, because all begin on one phase of the poolings."""
    made = network(**changes)
    whole = tuple(3 * p for p in made.shape.product)
    core = tuple(n * p for n, p in zip(cells, made.shape.product, strict=True))
    context = [b + a for b, a in made.shape.aligned_context]
    x = raw([-(-w // c) * c + n for w, c, n in zip(whole, core, context, strict=True)])
    with torch.inference_mode():
        wanted = made(x)["mask_logits"][0, 0][tuple(slice(n) for n in whole)]
        size = made.shape.aligned_input(core)[0]
        tiled = torch.full(whole, torch.nan)
        for begin in torch.cartesian_prod(*(torch.arange(0, w, c) for w, c in zip(whole, core, strict=True))).tolist():
            part = x[(..., *(slice(b, b + n) for b, n in zip(begin, size, strict=True)))]
            target = tuple(slice(b, b + c) for b, c in zip(begin, core, strict=True))
            inside = tuple(slice(min(c, w - b)) for b, c, w in zip(begin, core, whole, strict=True))
            tiled[target] = made(part)["mask_logits"][0, 0][inside]
    torch.testing.assert_close(tiled, wanted, atol=2e-5, rtol=0)


def test_other_phases_differ():
    made = network()
    x = raw([n + p for n, p in zip(made.shape.smallest_input, made.shape.product, strict=True)])
    with torch.inference_mode():
        there, moved = made(x)["mask_logits"], made(x[..., 1:])["mask_logits"]
    width = min(there.shape[-1] - 1, moved.shape[-1])
    assert (there[..., 1 : 1 + width] - moved[..., :width]).abs().max() > 1e-4


def test_vectors_are_nm():
    plain, scaled = network(), network(d_scale=0.25)
    x = raw(plain.shape.smallest_input)
    with torch.inference_mode():
        torch.testing.assert_close(scaled(x)["vectors"], 4 * plain(x)["vectors"])
        torch.testing.assert_close(scaled(x)["mask_logits"], plain(x)["mask_logits"])


def test_a_head_alone():
    made = network(heads=("mask",))
    assert set(made(raw(made.shape.smallest_input))) == {"mask_logits"}


def test_half_precision_is_near():
    made, half = network(), network().to(torch.bfloat16)
    x = raw(made.shape.smallest_input)
    with torch.inference_mode():
        found, wanted = half(x)["mask_logits"], made(x)["mask_logits"]
    assert found.dtype == torch.float32
    assert 0 < (found - wanted).abs().max() < 0.05


def test_all_weights_learn():
    made = network(unet_model="dh_unet")
    sum(v.square().sum() for v in made(raw(made.shape.smallest_input)).values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())


@pytest.mark.parametrize(("shape", "why"), [((30, 30, 30), r"\(n, 1, z, y, x\) is wanted"), ((1, 1, 5, 50, 50), "5 along z is too short")])
def test_inputs_that_do_not_fit_are_refused(shape, why):
    with pytest.raises(InputError, match=why):
        network()(torch.zeros(shape))


@pytest.mark.parametrize(("activation", "wanted"), [("sigmoid", [0.5, 0.880797, 0.268941]), ("relu", [0, 1, 0]), ("Identity", [0, 1, 0])])
def test_probabilities(activation, wanted):
    made = UNet(network().config, activation=activation)
    torch.testing.assert_close(made.probabilities(torch.tensor([0.0, 2.0, -1.0])), torch.tensor(wanted, dtype=torch.float32))


def test_probabilities_need_an_activation():
    with pytest.raises(ModelError, match="Give activation = 'sigmoid' if it was trained with cross-entropy"):
        UNet(network().config).probabilities(torch.zeros(1))
    with pytest.raises(ModelError, match="activation 'tanh': sigmoid, relu, none are known"):
        known_activation("tanh")
