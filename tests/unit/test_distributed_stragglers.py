"""Who is a straggler: found among slow actors, and not among equal ones, with calls as uneven as those of engines are."""

import random
from collections.abc import Callable
from statistics import median

import pytest

from engine.calls import LOADING, ModelCall
from engine.contract.profile import Pool
from engine.distributed.stragglers import FEWEST, WINDOW, CallWindow

FACTOR = Pool().straggler_factor or 0.0
Mix = Callable[[random.Random], tuple[list[int], list[int]]]  # tokens read, and written, of each request of a call


def lengths(rng: random.Random, middle: float, count: int, sigma: float = 1.0) -> list[int]:
    return [max(1, round(middle * rng.lognormvariate(0, sigma))) for _ in range(count)]


def even(rng: random.Random) -> tuple[list[int], list[int]]:
    return lengths(rng, 300, 32), lengths(rng, 150, 32)


def uneven(rng: random.Random) -> tuple[list[int], list[int]]:
    """A router sends a few requests of a block, or all of them."""
    count = rng.choice([1, 2, 4, 8, 32])
    return lengths(rng, 300, count), lengths(rng, 150, count)


def long_prompts(rng: random.Random) -> tuple[list[int], list[int]]:
    return lengths(rng, 6000, 32, 0.3), lengths(rng, 150, 32)


def long_answers(rng: random.Random) -> tuple[list[int], list[int]]:
    return lengths(rng, 300, 32), lengths(rng, 1500, 32)


def single(rng: random.Random) -> tuple[list[int], list[int]]:
    return lengths(rng, 300, 1), lengths(rng, 150, 1)


def call(rng: random.Random, mix: Mix, slow: float = 1.0) -> ModelCall:
    """A call as an engine's: it reads at 5,000 tokens a second, writes until the longest answer ends, and varies by a tenth."""
    read, written = mix(rng)
    seconds = sum(read) / 5000 + 0.02 * max(written)
    return ModelCall("teacher", slow * seconds * rng.lognormvariate(0, 0.1), len(read), sum(read), sum(written))


def windows(actors: int) -> list[CallWindow]:
    return [CallWindow() for _ in range(actors)]


def is_slow(all_windows: list[CallWindow], at: int) -> bool:
    peers = [window.rates() for number, window in enumerate(all_windows) if number != at]
    return all_windows[at].slowness(peers, FACTOR) is not None


def condemned(mixes: list[Mix], calls: int, rng: random.Random, slow: float = 1.0) -> list[tuple[int, int]]:
    """Return (call, actor) of each verdict, for actors with `mixes`, of which the first is `slow`. All begin together."""
    pool = windows(len(mixes))
    found = []
    for number in range(calls):
        for at, mix in enumerate(mixes):
            pool[at].add(call(rng, mix, slow if at == 0 else 1.0))
        found += [(number, at) for at in range(len(mixes)) if is_slow(pool, at)]
    return found


@pytest.mark.parametrize("actors", [2, 3, 8])
@pytest.mark.parametrize("mix", [even, uneven, single])
def test_of_equal_actors_none_is_condemned(mix: Mix, actors: int) -> None:
    """Some 6,000 verdicts for each size of pool and each mix."""
    rng = random.Random(3)
    assert not any(condemned([mix] * actors, 60, rng) for _ in range(100 // actors))


@pytest.mark.parametrize("mix", [long_prompts, long_answers, single, uneven])
def test_other_work_is_no_slowness(mix: Mix) -> None:
    rng = random.Random(4)
    assert not any(condemned([mix, even, even, even], 60, rng) for _ in range(10))


@pytest.mark.parametrize("actors", [2, 8])
@pytest.mark.parametrize("mix", [even, uneven])
def test_an_actor_of_a_fifth_of_the_speed_is_found_and_no_other(mix: Mix, actors: int) -> None:
    rng = random.Random(5)
    first = []
    for _ in range(12):
        found = condemned([mix] * actors, 40, rng, slow=5.0)
        assert {at for _, at in found} == {0}
        first.append(found[0][0])
    assert median(first) < 2 * FEWEST


def test_a_few_long_calls_condemn_nobody() -> None:
    pool = windows(2)
    for number in range(20):
        pool[0].add(ModelCall("teacher", 60.0 if number in (3, 9, 10, 15) else 1.0, 8, 100, 100))
        pool[1].add(ModelCall("teacher", 1.0, 8, 100, 100))
        assert not is_slow(pool, 0)


def test_fewer_calls_than_needed_say_nothing() -> None:
    pool = windows(2)
    for _ in range(FEWEST - 1):
        pool[0].add(ModelCall("teacher", 9.0, 8, 100, 100))
    for _ in range(20):
        pool[1].add(ModelCall("teacher", 1.0, 8, 100, 100))
    assert not is_slow(pool, 0)
    pool[0].add(ModelCall("teacher", 9.0, 8, 100, 100))
    assert is_slow(pool, 0)


def test_one_actor_has_no_peers_and_other_kinds_of_calls_are_none() -> None:
    pool = windows(2)
    for _ in range(20):
        pool[0].add(ModelCall("judge", 9.0, 8, 100, 100))
        pool[1].add(ModelCall("teacher", 1.0, 8, 100, 100))
    assert not is_slow(pool, 0)
    assert pool[0].slowness([], FACTOR) is None


def test_calls_that_answered_nothing_are_not_counted() -> None:
    pool = windows(2)
    for _ in range(20):
        pool[0].add(ModelCall("teacher", 300.0))  # the server did not answer
        pool[0].add(ModelCall("teacher", 1.0, 8, 100, 100))
        pool[1].add(ModelCall("teacher", 1.0, 8, 100, 100))
    assert not is_slow(pool, 0)


def test_an_actor_stays_until_its_slowness_has_cost_a_load() -> None:
    pool = windows(2)
    pool[0].add(ModelCall(LOADING, 100.0))
    for number in range(1, 21):
        pool[0].add(ModelCall("teacher", 10.0, 8, 100, 100))  # 9 of 10 s are lost
        pool[1].add(ModelCall("teacher", 1.0, 8, 100, 100))
        assert is_slow(pool, 0) == (number * 9 >= 100)


def test_a_long_healthy_past_condemns_nobody() -> None:
    """An actor that is slow after 400 healthy calls stays until the slow ones have cost a load; a pause of slowness starts anew."""
    pool = windows(2)
    pool[0].add(ModelCall(LOADING, 300.0))

    def condemned_at(slow_calls: int) -> list[int]:
        found = []
        for number in range(slow_calls):
            pool[0].add(ModelCall("teacher", 10.0, 8, 100, 100))
            pool[1].add(ModelCall("teacher", 1.0, 8, 100, 100))
            found += [number] if is_slow(pool, 0) else []
        return found

    for _ in range(400):
        for window in pool:
            window.add(ModelCall("teacher", 1.0, 8, 100, 100))
        assert not is_slow(pool, 0)
    assert condemned_at(30) == []  # 270 s of 300
    for _ in range(WINDOW):
        for window in pool:
            window.add(ModelCall("teacher", 1.0, 8, 100, 100))
        assert not is_slow(pool, 0)
    assert condemned_at(30) == []
    assert condemned_at(20)  # 450 s in all


def test_a_slow_half_is_compared_with_the_median_of_the_others() -> None:
    pool = windows(5)
    for _ in range(10):
        for at, window in enumerate(pool):
            window.add(ModelCall("teacher", 9.0 if at < 2 else 1.0, 8, 100, 100))
    assert [is_slow(pool, at) for at in range(5)] == [True, True, False, False, False]
