"""The page of the whole brain says what its formulas give of the measured numbers."""

import pytest

from benchmarks.whole_brain import BEGIN, PAGE, ROWS, Brain, Prices, figures, measured, shown, table, written

RESULTS = {
    "synful": {
        "unet_auto_input": [168, 862, 862],
        "unet_cpu_s_per_mvox": {"auto": 2.0},
        "cc_cpu_ms_per_mvox": 3.0,
        "reduce_partners": 10**7,
        "reduce_s": 30.0,
    },
    "scale": {"blocks": 10**8, "driver_us_per_block": 5.0, "driver_ms_per_lease": 1.0, "ledger_mb": 20.0},
}


def test_the_page_is_what_is_measured_today():
    page = PAGE.read_text()
    assert written(page, figures(measured())) == page, "write it anew: python -m benchmarks.whole_brain --write"
    assert page.count(BEGIN) == 1


def test_the_arithmetic_by_hand():
    """1,000 um^3 are 1,562.5 Mvoxel; 864 GPU-seconds at 1.8084... Mvoxel/s are a hundredth of a day."""
    brain, gpu = Brain(tissue_um3=1_000, partners=10**6, gpus=10), {"synful_mvox_per_s": 1562.5 / 864}
    found = figures({**RESULTS, "gpu": gpu}, brain, Prices(gpu_hour=2.0, core_hour=0.5))
    assert found["mvox"] == 1562.5
    assert found["blocks"] == -(-1_562_500_000 // (found["block_mvox"] * 1e6))
    assert found["network_core_days"] == pytest.approx(1562.5 * 2 / 86_400)
    assert found["network_core_cost"] == pytest.approx(1562.5 * 2 / 3_600 * 0.5)
    assert found["gpu_days"] == pytest.approx(0.01)
    assert (found["wall_days"], found["gpu_cost"]) == (pytest.approx(0.001), pytest.approx(0.48))
    assert found["read_gb_per_s"] == pytest.approx(found["read_tb"] * 1e3 / 86.4)
    assert (found["reduce_core_s"], found["partners_gb"], found["stored_tb"]) == (3.0, 0.064, 0.00625)
    assert (found["small_driver_core_s"], found["driver_core_s"]) == (500, pytest.approx(found["blocks"] * 3.6e-3))


def test_a_block_is_what_the_network_gives_of_its_input():
    from tasks.synful.parameters import NetworkParameters

    shape = NetworkParameters(4, 5, ((1, 3, 3), (1, 3, 3), (3, 3, 3))).shape
    z, y, x = shape.output_shape((168, 862, 862))
    found = figures(RESULTS)
    assert found["block_mvox"] == z * y * x / 1e6
    assert found["read_tb"] == found["blocks"] * 168 * 862 * 862 / 1e12


def test_what_no_gpu_has_measured_is_said():
    rows = dict(zip([key for key, *_ in ROWS], table(figures(RESULTS)).splitlines()[2:], strict=True))
    assert [key for key, row in rows.items() if "not measured" in row] == [
        "gpu_mvox_per_s",
        "gpu_days",
        "wall_days",
        "read_gb_per_s",
        "gpu_cost",
    ]


def test_the_gpu_of_2019_in_the_text():
    days = figures({**RESULTS, "gpu": {"synful_mvox_per_s": 0.8}})["gpu_days"]
    assert f"{shown(days)} GPU-days" in PAGE.read_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "not measured"), (0.0123456, "0.0123"), (12.34, "12.3"), (999.4, "999"), (1234.5, "1,230"), (125e6, "125,000,000")],
)
def test_three_figures_are_shown(value, text):
    assert shown(value) == text
