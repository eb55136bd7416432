#!/usr/bin/env bash
# An actor starts a process of its own beside idle ones that could run it.
#
# Guess: Ray keeps worker processes for what comes next, tasks or actors: a task that imports a heavy library warms a process for
#        an actor that follows with the same environment and resources, as it does for the next task.
# Seen:  tasks that follow run in the same processes, while these idle; actors never do, each starts another process, which imports
#        all anew. Without a runtime environment it is the same.
# With:  ray 2.60.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray==2.60.0"
RAY_TMPDIR="$folder" RAY_USAGE_STATS_ENABLED=0 timeout 300 "$folder/venv/bin/python" - <<'PYTHON'
import os
import time

import ray

ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def task():
    time.sleep(1)
    return os.getpid()


class Actor:
    def process(self):
        return os.getpid()


def processes(**options):
    """Processes of two tasks at once, of two more, and of two actors that follow."""
    remote = ray.remote(num_cpus=1, **options)
    tasks, again = (set(ray.get([remote(task).remote() for _ in range(2)])) for _ in range(2))
    actors = [remote(Actor).remote() for _ in range(2)]
    return tasks, again, set(ray.get([actor.process.remote() for actor in actors]))


try:
    plain, own = processes(), processes(runtime_env={"env_vars": {"A": "1"}})
finally:
    ray.shutdown()
for name, (tasks, again, actors) in {"plain": plain, "environment of its own": own}.items():
    print(f"{name}: {len(tasks & again)} of 2 tasks, {len((tasks | again) & actors)} of 2 actors in a process of earlier tasks")
    assert tasks == again and not (tasks | again) & actors
PYTHON
