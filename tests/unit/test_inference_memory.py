"""Loaders that have memory for so many sequences and no more."""

import pytest

from engine.inference.memory import FLOOR, fitting


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


def loader(room, failure):
    asked = []

    def load(sequences):
        asked.append(sequences)
        if sequences > room:
            raise failure
        return f"{sequences} at once"

    return load, asked


@pytest.mark.parametrize(
    "failure",
    [
        OutOfMemoryError("x"),
        MemoryError(),
        ValueError("No available memory for the cache blocks. Try ..."),
        RuntimeError("CUDA out of memory occurred when warming up sampler with 256 dummy requests."),
        RuntimeError("Engine core initialization failed. See root cause above."),
    ],
)
def test_an_engine_without_memory_steps_down_until_it_fits(failure):
    load, asked = loader(70, failure)
    assert fitting(load, 256) == "64 at once"
    assert asked == [256, 128, 64]


def test_an_engine_that_fits_is_loaded_once():
    load, asked = loader(256, MemoryError())
    assert (fitting(load, 256), asked) == ("256 at once", [256])


def test_an_engine_that_does_not_fit_at_the_floor_is_given_up_with_its_own_error():
    load, asked = loader(0, OutOfMemoryError("20 GiB"))
    with pytest.raises(OutOfMemoryError, match="20 GiB"):
        fitting(load, 20)
    assert asked == [20, 10, FLOOR]


def test_any_other_failure_is_not_tried_again():
    load, asked = loader(0, ValueError("no such dtype"))
    with pytest.raises(ValueError, match="no such dtype"):
        fitting(load, 256)
    assert asked == [256]
