"""The page that lists what goes wrong names tests that are there."""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "design" / "chaos.md"


def test_every_test_that_the_page_names_is_there():
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("| ") and not row.startswith("| fault")]
    named = [re.findall(r"`([\w/]+\.py)`", row) for row in rows]
    assert len(rows) > 25
    assert all(named), "a row without a test"
    assert [name for names in named for name in names if not (TESTS / name).is_file()] == []


def test_every_chaos_test_is_on_the_page():
    there = {f"chaos/{file.name}" for file in TESTS.glob("chaos/test_*.py")} - {f"chaos/{Path(__file__).name}"}
    assert there - set(re.findall(r"`([\w/]+\.py)`", PAGE.read_text())) == set()
