#!/usr/bin/env bash
# ray.init replaces the program's handler of SIGTERM.
#
# Guess:a library that is initialised in a program leaves the handler that the program has set, or calls it.
# Seen: after ray.init on the main thread another handler is set, without a word: SIGTERM raises SystemExit(15) in the
#       program, and its own handler, set before, is not called. Set after ray.init, it is called.
# With:  ray 2.60.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ray==2.60.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import signal
from importlib.metadata import version

import ray

called = []
signal.signal(signal.SIGTERM, lambda number, frame: called.append("ours"))
ours = signal.getsignal(signal.SIGTERM)
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
replaced = signal.getsignal(signal.SIGTERM) is not ours
try:
    signal.raise_signal(signal.SIGTERM)
except SystemExit as end:
    called.append(f"SystemExit({end.code})")
signal.signal(signal.SIGTERM, ours)
signal.raise_signal(signal.SIGTERM)
ray.shutdown()
print("ray", version("ray"), "replaced:", replaced, "then called:", called)
assert replaced and called == ["SystemExit(15)", "ours"]
PYTHON
