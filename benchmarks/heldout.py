"""`python -m benchmarks.heldout [GROUND_TRUTH] [PUBLISHED_MODEL]`: training judged on data it has not seen; one JSON object last.

Trains three members at noise level 2 (30 Hz, smoothing 50 ms, causal kernel) on nine of the twelve excitatory datasets and scores them on
the three left out together: median over neurons of the correlation with the truth, on noise-level-2 resampled traces. The published model,
which HAS seen these neurons, is scored on the same traces where it is at hand. Folders default to those of the shared data.

correlation   per held-out dataset: trained, bar, published
train_cpu_s   CPU-seconds of the block (training and scoring), one thread
"""

import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from blockwise.config import RunConfig
from blockwise.run import run_task
from tasks.cascade.benchmark_task import CascadeBenchmark

EXCITATORY = ("DS02", "DS06", "DS07", "DS10", "DS13", "DS15", "DS16", "DS17", "DS18", "DS19", "DS20", "DS21")
BARS = {"DS06": 0.63, "DS10": 0.68, "DS16": 0.52}
PUBLISHED = "Global_EXC_30Hz_smoothing50ms_causalkernel"
SETTINGS = {"sampling_rate": 30.0, "smoothing": 0.05, "causal_kernel": True}
MEMBERS = 3


def heldout(ground_truth: Path, published: Path | None, folder: Path) -> dict[str, Any]:
    """Run the one fold through the engine on one worker and read its scores."""
    options = {**SETTINGS, "datasets": EXCITATORY, "held_out": [list(BARS)], "noise_level": 2, "ensemble_size": MEMBERS}
    config = RunConfig(
        task=CascadeBenchmark.name,
        input={"path": str(ground_truth)},
        output={"path": str(folder / "scores")},
        model={"path": None if published is None else str(published)},
        options=options,
        cluster={"workers": 1, "threads": 1},
        run={"folder": str(folder / "run"), "block_timeout_s": 4 * 3600.0},
    )
    before = _child_cpu_s()
    outcome = run_task(CascadeBenchmark.from_config(config), config)
    if outcome.exit_code:
        raise SystemExit(outcome.exit_code)
    scores = json.loads((folder / "scores" / "scores.json").read_text())["datasets"]
    return {"correlation": correlations(scores), "datasets": scores, "members": MEMBERS, "train_cpu_s": round(_child_cpu_s() - before, 1)}


def correlations(scores: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Per held-out dataset: what the trained ensemble reached, the bar, and the published model's."""
    found: dict[str, dict[str, float]] = {name: {"bar": bar} for name, bar in BARS.items()}
    for row in scores:
        found[row["dataset"].split("-")[0]]["trained" if row["scored"] == "trained" else "published"] = row["correlation"]
    return found


def _child_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def shared_folder() -> Path:
    return Path(os.environ.get("BLOCKWISE_SHARED") or Path(__file__).resolve().parents[2] / "shared") / "data" / "spikes"


def main(arguments: list[str]) -> None:
    ground_truth = Path(arguments[0]) if arguments else shared_folder() / "ground_truth"
    published = Path(arguments[1]) if len(arguments) > 1 else shared_folder() / "cascade" / "Pretrained_models" / PUBLISHED
    with tempfile.TemporaryDirectory() as folder:
        result = heldout(ground_truth, published if published.is_dir() else None, Path(folder))
    text = json.dumps(result)
    (Path(__file__).parent / "results").mkdir(exist_ok=True)
    (Path(__file__).parent / "results" / "heldout.json").write_text(json.dumps(result, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
