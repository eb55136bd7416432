"""The variables of a command take effect where Ray is imported after they are set, as in a process of its own."""

import os
import subprocess
import sys

CODE = """
import sys
from engine.contract.profile import Profile
from jobs import cli  # what the command imports before it sets the variables
from jobs.commands import iterate, run, search
from jobs.terminal.environment import set_environment

assert "ray" not in sys.modules
set_environment(Profile(name="p"))
import ray
from ray.exceptions import RaySystemError

for call in (lambda: ray.put(1), ray.get_runtime_context().get_job_id, lambda: ray.remote(int).remote()):
    try:
        call()
    except (RaySystemError, RuntimeError, AssertionError) as error:
        print(type(error).__name__)
assert not ray.is_initialized()
"""


def test_no_call_of_ray_starts_a_cluster_by_itself() -> None:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", CODE], env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 3
