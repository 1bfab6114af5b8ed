"""One command per claim made in the README: `python -m benchmarks.NAME` prints one JSON object last."""
