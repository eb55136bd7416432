"""Crash isolation. A process dies in these tests by an exception that nothing in the engine catches."""

import pytest

from engine.errors import ModelError
from engine.inference.crash_isolation import CrashIsolator
from engine.storage.folder import Folder


class Dead(BaseException):
    """The process is gone."""


class Actor:
    """Answers durably, and is started again when it dies, as Ray does."""

    def __init__(self, folder, poison=(), **more):
        self.isolator = CrashIsolator(Folder(str(folder)), hang_seconds=60, die=self.die, **more)
        self.poison, self.done, self.given_up, self.asked, self.deaths = set(poison), [], [], [], 0

    def die(self, status):
        raise Dead(status)

    def answer(self, keys):
        def ask(batch):
            self.asked.append(len(batch))
            if self.poison & {open_[index] for index in batch}:
                raise RuntimeError("the engine is dead")
            self.done += [open_[index] for index in batch]

        while open_ := [key for key in keys if key not in self.done and key not in self.given_up]:
            try:
                self.isolator(open_, ask, lambda index, open_=open_: self.given_up.append(open_[index]))
            except Dead:
                self.deaths += 1


KEYS = [f"k{index}" for index in range(16)]


def test_a_batch_that_does_not_kill_is_asked_once_and_leaves_no_mark(tmp_path):
    actor = Actor(tmp_path)
    actor.answer(KEYS)
    assert (actor.done, actor.asked, list(tmp_path.iterdir())) == (KEYS, [16], [])


@pytest.mark.parametrize("poison", [0, 7, 15])
def test_one_that_kills_is_set_apart_and_the_rest_answered(tmp_path, poison):
    actor = Actor(tmp_path, [KEYS[poison]])
    actor.answer(KEYS)
    assert actor.given_up == [KEYS[poison]]
    assert sorted(actor.done) == sorted(set(KEYS) - {KEYS[poison]})
    assert actor.deaths == 2 + 4  # the whole twice, then 8, 4, 2, 1


def test_several_that_kill_are_all_set_apart(tmp_path):
    actor = Actor(tmp_path, ["k1", "k2", "k12"])
    actor.answer(KEYS)
    assert sorted(actor.given_up) == ["k1", "k12", "k2"]
    assert len(actor.done) == 13


@pytest.mark.parametrize(("at_once", "asked"), [(8, 4), (16, 8), (100, 8), (3, 1), (1, 1)])
def test_a_batch_that_kills_twice_is_asked_with_half_of_what_the_engine_computes_at_once(tmp_path, at_once, asked):
    actor = Actor(tmp_path, ["k3"], at_once=at_once)
    actor.answer(KEYS)
    assert actor.asked[:3] == [16, 16, asked]
    assert (actor.given_up, sorted(actor.done)) == (["k3"], sorted(set(KEYS) - {"k3"}))


def test_memory_for_half_the_batch_gives_up_none(tmp_path):
    actor = Actor(tmp_path)

    def ask(batch):
        if len(batch) > 4:
            raise MemoryError
        actor.done += [KEYS[index] for index in batch]

    for _ in range(2):
        with pytest.raises(Dead):
            actor.isolator(KEYS, ask, actor.given_up.append)
    actor.isolator.at_once = 8
    actor.isolator(KEYS, ask, actor.given_up.append)
    assert (actor.done, actor.given_up) == (KEYS, [])


def test_after_an_accident_the_same_batch_is_asked_again(tmp_path):
    actor = Actor(tmp_path, ["k3"])
    with pytest.raises(Dead):
        actor.isolator(KEYS, lambda batch: actor.die(0), lambda index: None)
    actor.poison = set()
    actor.answer(KEYS)
    assert (actor.asked, actor.given_up) == ([16], [])


def test_an_error_of_ours_passes_and_is_no_death(tmp_path):
    def ask(batch):
        raise ModelError("weights are missing")

    with pytest.raises(ModelError):
        Actor(tmp_path).isolator(KEYS, ask, lambda index: None)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_dies_while_it_loads_is_tried_once_more(tmp_path):
    actor = Actor(tmp_path)

    def build():
        raise MemoryError

    for _ in range(2):
        with pytest.raises(Dead):
            actor.isolator.load(build, "big")
    with pytest.raises(ModelError, match=r"big: 2 processes on .* died while they loaded it"):
        actor.isolator.load(build, "big")


def test_an_engine_that_was_loaded_has_no_earlier_deaths(tmp_path):
    actor = Actor(tmp_path)
    for _ in range(3):  # one death each time, as a machine that is taken away causes it
        with pytest.raises(Dead):
            actor.isolator.load(lambda: 1 / 0, "big")  # type: ignore[arg-type, return-value]
        assert actor.isolator.load(lambda: "loaded", "big") == "loaded"  # type: ignore[arg-type, return-value]


class Buggy(Actor):
    """An actor whose own code fails for the keys in `poison`, as a bug does."""

    def answer(self, keys):
        def ask(batch):
            self.asked.append(len(batch))
            if self.poison & {open_[index] for index in batch}:
                {}["missing"]
            self.done += [open_[index] for index in batch]

        while open_ := [key for key in keys if key not in self.done and key not in self.given_up]:
            try:
                self.isolator(open_, ask, lambda index, open_=open_: self.given_up.append(open_[index]))
            except Dead:
                self.deaths += 1


def test_a_bug_stops_the_run_with_its_traceback_after_a_few_deaths(tmp_path):
    actor = Buggy(tmp_path, KEYS)
    with pytest.raises(ModelError, match=r"failed with KeyError at .*\n(.|\n)*KeyError: 'missing'") as stop:
        actor.answer(KEYS)
    assert (actor.done, actor.given_up, actor.deaths) == ([], [], 5)  # 16, 16, 8, 8, 4, and 4 is the third without a common request
    assert "\n\n" not in str(stop.value)


def test_a_bug_stops_the_run_at_once_where_three_batches_met_it(tmp_path):
    for number in range(2):
        with pytest.raises(Dead):
            Buggy(tmp_path, KEYS).isolator([f"other {number}"], lambda batch: {}["missing"], lambda index: None)
    actor = Buggy(tmp_path, KEYS)
    same = [lambda batch: {}["missing"]] * 3
    for ask, keys, ends in zip(same, (["a"], ["b"], ["c"]), (Dead, Dead, ModelError), strict=True):
        with pytest.raises(ends):
            actor.isolator(keys, ask, lambda index: None)


@pytest.mark.parametrize("poison", [["k0"], ["k15"], ["k3", "k9"], ["k2", "k3"]])
def test_rows_that_meet_a_bug_are_set_apart_while_others_are_answered(tmp_path, poison):
    actor = Buggy(tmp_path, poison)
    actor.answer(KEYS)
    assert sorted(actor.given_up) == sorted(poison) and len(actor.done) == len(KEYS) - len(poison)


def test_rows_that_meet_the_same_bug_in_many_blocks_never_stop_the_run(tmp_path):
    blocks = [[f"{block} {key}" for key in KEYS[:8]] for block in range(6)]
    actor = Buggy(tmp_path, [block[5] for block in blocks])
    for block in blocks:
        actor.answer(block)
    assert actor.given_up == [block[5] for block in blocks] and len(actor.done) == 6 * 7


def test_crashes_of_the_engine_and_of_memory_are_no_bugs(tmp_path):
    actor = Actor(tmp_path, KEYS)
    actor.answer(KEYS)
    assert sorted(actor.given_up) == sorted(KEYS)


def test_a_bug_of_one_model_stops_the_run_although_another_model_answers(tmp_path):
    broken, sound = Buggy(tmp_path, KEYS), Buggy(tmp_path)
    broken.isolator.model, sound.isolator.model = "broken", "sound"
    with pytest.raises(ModelError, match="broken: 6 batches in a row"):
        for turn in range(40):
            sound.answer([f"fine {turn}"])
            try:
                broken.isolator(KEYS, lambda batch: {}["missing"], lambda index: None)
            except Dead:
                continue
