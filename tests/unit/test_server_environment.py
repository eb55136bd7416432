"""The variables with which the engines of a server are started."""

import subprocess
import sys

import pytest

from engine.contract.profile import Pool
from engine.distributed.environment import server_environment

READ = "print(open('/proc/self/maps').read())"


@pytest.mark.skipif(sys.platform != "linux", reason="Ray's package has jemalloc for Linux")
def test_a_process_of_a_server_allocates_with_jemalloc() -> None:
    variables = server_environment(Pool(), {})
    done = subprocess.run([sys.executable, "-c", READ], env=variables, capture_output=True, text=True, check=True)
    assert "libjemalloc.so" in done.stdout
    assert done.stderr == ""


def test_an_allocator_of_the_user_goes_on_to_be_used() -> None:
    assert "LD_PRELOAD" not in server_environment(Pool(), {"LD_PRELOAD": "/usr/lib/libtcmalloc.so"})


def test_on_a_gpu_the_allocator_is_left_alone() -> None:
    assert "LD_PRELOAD" not in server_environment(Pool(gpus=1), {})
