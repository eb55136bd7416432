"""Engines are loaded with fewer sequences at once until they fit into memory."""

import gc

import pytest

from engine.inference.memory import MIN_SEQUENCES, load_within_memory


@pytest.fixture(autouse=True)
def no_collection(monkeypatch):
    """With all that the other tests have imported, a collection takes a second."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


def loader(room, failure):
    tried = []

    def load(sequences):
        tried.append(sequences)
        if sequences > room:
            raise failure
        return f"{sequences} at once"

    return load, tried


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
    load, tried = loader(70, failure)
    assert load_within_memory(load, 256) == "64 at once"
    assert tried == [256, 128, 64]


def test_an_engine_that_fits_is_loaded_once():
    load, tried = loader(256, MemoryError())
    assert (load_within_memory(load, 256), tried) == ("256 at once", [256])


def test_an_engine_that_does_not_fit_with_the_fewest_sequences_is_given_up_with_its_own_error():
    load, tried = loader(0, OutOfMemoryError("20 GiB"))
    with pytest.raises(OutOfMemoryError, match="20 GiB"):
        load_within_memory(load, 20)
    assert tried == [20, 10, MIN_SEQUENCES]


def test_any_other_failure_is_not_tried_again():
    load, tried = loader(0, ValueError("no such dtype"))
    with pytest.raises(ValueError, match="no such dtype"):
        load_within_memory(load, 256)
    assert tried == [256]
