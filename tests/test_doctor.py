"""What `doctor` finds on this machine."""

import sys

from blockwise._version import __version__
from blockwise.doctor import doctor_text, examine
from tests.runs import blockwise


def test_the_account_is_of_this_machine():
    found = examine()
    assert (found["version"], found["blockwise"], found["supported"]) == (1, __version__, sys.version_info[:2] <= (3, 13))
    assert found["cores"] >= 1
    assert found["memory_free_gb"] <= found["memory_gb"]
    assert "cascade" in found["tasks"]
    assert found["packages"]["torch"] != "absent"


def test_an_optional_part_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)  # what Python itself keeps of a module that must not be found
    assert examine()["missing"]["s3fs"] == "pip install -e '.[s3]' in the checkout"
    assert "not installed: s3fs (pip install -e '.[s3]' in the checkout)" in doctor_text(examine())


def test_the_command_prints_text_or_json():
    assert f"blockwise {__version__} on Python" in blockwise("doctor").out
    assert blockwise("doctor", "--json").json["version"] == 1
