#!/usr/bin/env bash
# Forks of a process that has declared an actor class draw the same random ids.
#
# Guess: random ids of Ray differ between processes that have not connected to a cluster: nothing of Ray runs there yet, and a class
#        that is decorated with ray.remote is only a class.
# Seen:  after `import ray` two forks draw different ids. After a class was decorated, as `import ray.data` does with its own, both
#        draw the same ids: the decoration draws an id, and so starts a generator whose state the forks share. Workers that are forked
#        from such a process end with a failed check when they put their first object.
# With:  ray 2.60.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray==2.60.0"
RAY_USAGE_STATS_ENABLED=0 timeout 300 "$folder/venv/bin/python" - <<'PYTHON'
import os

import ray


def drawn():
    """The id that a fork draws first."""
    ours, theirs = os.pipe()
    if not (pid := os.fork()):
        os.write(theirs, ray.UniqueID.from_random().binary())
        os._exit(0)
    os.close(theirs)
    os.waitpid(pid, 0)
    with os.fdopen(ours, "rb") as read:
        return read.read()


imported = drawn() == drawn()
ray.remote(type("Declared", (), {}))
declared = drawn() == drawn()
print(f"ids of two forks are the same: {imported} after import ray, {declared} after a class was declared as an actor")
assert (imported, declared) == (False, True)
PYTHON
