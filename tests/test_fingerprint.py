"""What decides a result: a difference is named, and only the harmless ones can be adopted (G3)."""

import pytest

from blockwise.errors import FingerprintMismatch, PlanRefused
from blockwise.fingerprint import check, differences, fingerprint
from blockwise.geometry import Domain
from blockwise.grid import GridSpec
from blockwise.testing import MapTask

NOW = {"task": "map", "version": "1", "grid.shape": "[4]", "options.threshold": "0", "input.size": "10", "input.mtime": "5"}


class Salted(MapTask):
    """A task whose options are given."""

    salt = "a"

    def relevant_options(self):
        return {"salt": self.salt, "long": "z" * 500}

    def fingerprint(self, domain):
        return {"input.digest": f"digest of {domain}"}


def task(shape=(4,), edge="shrink", context=()):
    return Salted("out.zarr", [Domain("d", ("x",), (10,)), Domain("e", ("x",), (9,))], GridSpec(shape, context, edge))


def test_it_covers_task_grid_options_and_input_and_no_place():
    values = fingerprint(task(), 1)
    assert {k.split(".")[0] for k in values} == {"task", "version", "grid", "options", "input"}
    assert values["input.digest"] == "digest of 1"
    assert all(len(v) <= 80 for v in values.values())
    assert "out.zarr" not in str(values)


@pytest.mark.parametrize(
    ("changed", "key"),
    [(task((5,)), "grid.shape"), (task(edge="snap"), "grid.edge"), (task(context=((1, 1),)), "grid.context")],
)
def test_another_grid_is_another_fingerprint(changed, key):
    assert differences(fingerprint(task(), 0), fingerprint(changed, 0)) == [key]


def test_another_version_or_option_is_another_fingerprint():
    changed = task()
    changed.version, changed.salt = "2", "b"
    assert differences(fingerprint(task(), 0), fingerprint(changed, 0)) == ["options.salt", "version"]


@pytest.mark.parametrize("change", [{"options.threshold": "1"}, {"options.new": "1"}, {"input.size": "11", "task": "other"}])
def test_a_difference_is_refused_with_both_values(change):
    with pytest.raises(FingerprintMismatch) as refused:
        check("run", NOW, {**NOW, **change})
    for key, value in change.items():
        assert f"{key}: was {NOW.get(key, 'absent')}, now {value}" in str(refused.value)


def test_a_changed_input_is_named_with_what_changed():
    then, now = ({**NOW, "input.traces": f"size={size} mtime=2026-11-20T10:00:00Z ends=ab"} for size in (10, 12))
    with pytest.raises(FingerprintMismatch) as refused:
        check("run", then, now, places={"input.traces": "/data/rec.npy"})
    assert "run was made from other inputs:\n  input.traces: /data/rec.npy changed: bytes was 10, now 12; the same: modified" in str(
        refused.value
    )


def test_truth_values_are_shown_as_toml_writes_them():
    with pytest.raises(FingerprintMismatch, match=r"options\.threshold: was 0, now false"):
        check("run", NOW, {**NOW, "options.threshold": "False"})


@pytest.mark.parametrize("adopt", [("options.threshold",), ("options",), ("input", "options")])
def test_what_was_adopted_is_let_through_by_key_or_section(adopt):
    assert check("run", NOW, {**NOW, "options.threshold": "1"}, adopt) == ["options.threshold"]


def test_adopting_one_key_lets_no_other_through():
    with pytest.raises(FingerprintMismatch, match=r"input\.size"):
        check("run", NOW, {**NOW, "options.threshold": "1", "input.size": "9"}, ("options",))


@pytest.mark.parametrize(("key", "adopt"), [("grid.shape", "grid"), ("task", "task"), ("grid.shape", "grid.shape")])
def test_another_grid_or_task_cannot_be_adopted(key, adopt):
    with pytest.raises(PlanRefused, match="other blocks"):
        check("run", NOW, {**NOW, key: "x"}, (adopt,))


def test_equal_fingerprints_pass():
    assert check("run", NOW, dict(NOW)) == []


def test_a_signature_in_a_url_is_neither_kept_nor_compared():
    signed, again = task(), task()
    signed.salt, again.salt = "https://h/mask?sig=hunter22", "https://h/mask?sig=another1"
    assert "hunter22" not in str(fingerprint(signed, 0))
    assert fingerprint(signed, 0) == fingerprint(again, 0)
