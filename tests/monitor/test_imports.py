import subprocess
import sys

import pytest

HEAVY = ("rich", "matplotlib", "bokeh", "torch", "distributed", "numpy")


@pytest.mark.parametrize("module", ["text", "progress", "report", "svg"])
def test_what_the_command_line_imports_is_light(module):
    code = f"import sys, blockwise; before = set(sys.modules); import blockwise.monitor.{module}; print(*(set(sys.modules) - before))"
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert not set(HEAVY) & set(new)


def test_the_page_brings_neither_bokeh_nor_torch():
    code = "import sys, blockwise.monitor.page; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert not {"bokeh", "torch", "matplotlib"} & set(loaded)
