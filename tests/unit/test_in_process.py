"""Work in threads of one process: results, errors, order, and when it is done so."""

import threading
import time
import weakref

import pytest

from engine.contract.profile import Profile
from engine.distributed.in_process import is_in_process
from engine.distributed.thread_pool import ThreadPool
from engine.errors import InputError


def test_references_are_values_and_many_results_have_one_each():
    with ThreadPool(2) as pool:
        low, high = pool.start(divmod, 17, 5, returns=2)
        assert pool.fetch(pool.start(lambda *parts: parts, low, high, 9)) == [(3, 2, 9)]
        assert pool.fetch(high) == 2


def test_a_function_may_wait_for_one_of_another_pool_and_long_chains_end():
    with ThreadPool(1) as one, ThreadPool(1) as other:
        [ref] = one.start(int)
        for step in range(300):
            [ref] = (one, other)[step % 2].start(lambda value: value + 1, ref)
        assert one.fetch(ref) == 300


def test_an_error_reaches_whoever_asks_and_what_builds_on_it():
    with ThreadPool(2) as pool:
        first, second = pool.start(lambda: 1 / 0, returns=2)
        [built] = pool.start(abs, first)
        for ref in (first, second, built):
            with pytest.raises(ZeroDivisionError):
                pool.fetch(ref)
        with pytest.raises(ValueError, match=r"shorter|longer"):
            pool.fetch(pool.start(lambda: [1], returns=2))


def test_after_an_error_nothing_that_has_not_begun_is_run():
    done: list[int] = []
    gate = threading.Event()
    with pytest.raises(KeyboardInterrupt), ThreadPool(1) as pool:
        pool.start(gate.wait, 10)
        for number in range(5):
            pool.start(done.append, number)
        threading.Timer(0.05, gate.set).start()
        raise KeyboardInterrupt
    time.sleep(0.02)
    assert done == []


def test_a_large_result_is_freed_when_nobody_refers_to_it():
    class Large:
        pass

    freed = threading.Event()
    with ThreadPool(1) as pool:

        def make():
            large = Large()
            weakref.finalize(large, freed.set)
            return large, 1

        large, small = pool.start(make, returns=2)
        assert pool.fetch(small) == 1 and not freed.is_set()
        del large
        assert freed.wait(5)


GIB = 2**30


@pytest.mark.parametrize(
    ("ray", "gib", "expected"),
    [
        ({}, 0.001, True),
        ({}, 1000, False),  # more than any machine has
        ({"in_process_gib": 0}, 0.001, False),
        ({"in_process_gib": 2}, 1.9, True),
        ({"in_process_gib": 2}, 2.1, False),
        ({"address": "auto"}, 0.001, False),  # a cluster that runs already costs no start
        ({"address": "none"}, 0.001, True),
    ],
)
def test_small_work_needs_no_cluster(ray, gib, expected):
    assert is_in_process(Profile.model_validate({"name": "some", "ray": ray}), gib * GIB) is expected


def test_work_on_gpus_and_beyond_the_bound_is_refused_where_no_cluster_may_start():
    profile = Profile.model_validate({"name": "some", "ray": {"address": "none", "in_process_gib": 2}})
    with pytest.raises(InputError, match=r"some: ray.address is `none`, found work that holds about 3.0 GiB, expected at most 2.0"):
        is_in_process(profile, 3 * GIB)
    with pytest.raises(InputError, match="an embedder on GPUs"):
        is_in_process(profile, 0, gpus=True)
