"""Event files, read by TensorFlow's own reader."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tasks.synful.training.event_file import EventFile
from tasks.synful.training.loop import train
from tests.synful.training.data import simulated, tiny

READER = """
import json, sys
import tensorflow as tf
found = []
for event in tf.compat.v1.train.summary_iterator(sys.argv[1]):
    found.append([event.step, event.file_version, event.session_log.status, {v.tag: v.simple_value for v in event.summary.value}])
print(json.dumps(found))
"""


def events(folder) -> list:
    """Of the one file in a folder."""
    if find_spec("tensorflow") is None:
        pytest.skip("TensorFlow reads the events: pip install -e '.[tensorflow]'")
    (file,) = folder.glob("events.out.tfevents.*")
    done = subprocess.run([sys.executable, "-c", READER, str(file)], check=True, capture_output=True, text=True, timeout=250)
    return json.loads(done.stdout.splitlines()[-1])


def test_figures_are_read_back(tmp_path):
    with EventFile(tmp_path, step=300) as written:
        written.add(301, {"metrics/loss": 0.5, "metrics/gradient": -2.0})
        written.add(70_000, {"validation/f_score": 0.25})
    assert events(tmp_path) == [
        [0, "brain.Event:2", 0, {}],
        [300, "", 1, {}],
        [301, "", 0, {"metrics/loss": 0.5, "metrics/gradient": -2.0}],
        [70_000, "", 0, {"validation/f_score": 0.25}],
    ]


def test_training_writes_them(tmp_path):
    train(tiny(max_iteration=2), tmp_path, cubes=[simulated()])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    written = events(tmp_path / "events")
    assert written[1] == [0, "", 1, {}], "what an earlier start without a checkpoint wrote is void"
    found = {step: figures for step, _, _, figures in written if figures}
    assert {s: f["metrics/loss"] for s, f in found.items()} == {line["iteration"]: pytest.approx(line["loss"]) for line in lines}
