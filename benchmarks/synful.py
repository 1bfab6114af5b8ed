"""`python -m benchmarks.synful`: what Synful costs, in CPU-seconds of one thread; one JSON object last.

The parts: synful_extraction (components and maxima), synful_network (the largest block against the original's tile), synful_evaluation
(the FAFB benchmark), synful_reduce (10^7 partners), synful_targets (vector maps). Takes some minutes. Each part runs in a process of its
own, with one thread.
"""

import json
import os
import subprocess
import sys

PARTS = ("extraction", "network", "evaluation", "targets", "reduce")
ONE = "import json; from benchmarks import synful_{0} as part; print(json.dumps(part.figures()))"


def main() -> None:
    """All parts, one after the other."""
    found: dict[str, object] = {}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for part in PARTS:
        run = subprocess.run([sys.executable, "-c", ONE.format(part)], stdout=subprocess.PIPE, text=True, check=True, env=environment)
        found |= json.loads(run.stdout.splitlines()[-1])
        print(part, "done", file=sys.stderr)
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}))


if __name__ == "__main__":
    main()
