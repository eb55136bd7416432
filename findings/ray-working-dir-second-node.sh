#!/usr/bin/env bash
# A node that joins on the same machine takes the working directory away from running workers.
#
# Guess: working_dir is a folder of its own for each node, or shared and left alone while workers use it: actors of the first
#        node go on reading their files when a second node starts.
# Seen:  two nodes of one machine share the session's folder. The second unpacks the package anew where that of the first is, so
#        that the current directory of a running actor is one that was removed: open of a relative path raises
#        FileNotFoundError, as does os.getcwd, though a folder of the same name with the same files is there.
# With:  ray[default] 2.60.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray[default]==2.60.0"
cd "$folder"
RAY_TMPDIR="$folder" RAY_USAGE_STATS_ENABLED=0 timeout 300 "$folder/venv/bin/python" - <<'PYTHON'
import os
import pathlib

import ray
from ray.cluster_utils import Cluster

folder = pathlib.Path("job").absolute()
folder.mkdir()
(folder / "settings.txt").write_text("value")


class Reader:
    def __init__(self):
        self.start = os.getcwd()

    def read(self):
        """What the file says by its relative path, and by its absolute one, as the actor saw it at its start."""
        seen = []
        for name in ("settings.txt", os.path.join(self.start, "settings.txt")):
            try:
                seen.append(pathlib.Path(name).read_text())
            except FileNotFoundError as error:
                seen.append(type(error).__name__)
        return seen


cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "resources": {"first": 1}, "include_dashboard": False})
try:
    ray.init(address=cluster.address, runtime_env={"working_dir": str(folder)}, log_to_driver=False, logging_level="ERROR")
    first = ray.remote(Reader).options(resources={"first": 1}).remote()
    before = ray.get(first.read.remote())
    cluster.add_node(num_cpus=1, resources={"second": 1})
    ray.get(ray.remote(Reader).options(resources={"second": 1}).remote().read.remote())
    after = ray.get(first.read.remote())
finally:
    ray.shutdown()
    cluster.shutdown()
print("ray", ray.__version__, "relative and absolute path, before:", before, "with a second node and its actor:", after)
assert before == ["value", "value"]
assert after == ["FileNotFoundError", "value"]
PYTHON
