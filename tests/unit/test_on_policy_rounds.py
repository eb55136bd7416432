"""The rounds around scripted models: what ends them, which weights are kept, and what a later attempt does again."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import small_tokenizer

from engine.capture.schemas import CAPTURE, VOCABULARY
from engine.contract.on_policy import OnPolicy
from engine.errors import InputError, ModelError
from engine.records.capture import CaptureMetrics
from engine.rows import Row
from engine.storage.folder import Folder
from engine.students.on_policy import rounds
from engine.students.on_policy.questions import Questions
from engine.students.on_policy.rollouts import Scored, load
from engine.students.on_policy.schemas import HELD_OUT, QUESTION, SAMPLE, TRAIN
from engine.students.training.checkpoint_state import Progress
from engine.students.training.state import RoundSpec

GRPO = OnPolicy(objective="grpo", rewards={"regex": 1}, rounds=3, prompts_per_round=2, samples=2, held_out=1)
KL = OnPolicy(objective="on_policy_kl", teacher="t", rounds=2, prompts_per_round=2, samples=2, held_out=1)
Answers = Callable[[int, Row, int], tuple[str, float]]
"""Round, question, number of the sample -> answer and reward."""


@dataclass
class Scripted:
    """Stages that answer by a script, and note what they did."""

    store: Path
    answers: Answers
    dies_in: str = ""
    finish: str = "stop"
    losses: Sequence[float] = (1.0, 0.5)
    unpaid: bool = False
    ahead: int = 0
    """Rounds whose training ends only after the samples of the next one are there, from 1."""
    sampled: dict[int, threading.Event] = field(default_factory=dict)
    alive: bool = True
    older: list[str] = field(default_factory=list)
    """By what model the samples of each training were drawn, where that is not the one before it."""
    did: list[str] = field(default_factory=list)

    def sample(self, model: Path, questions: pa.Table, number: int) -> pa.Table:
        self._note(f"sample {number} by {model.parent.parent.name if model.name == 'best' else 'start'}")
        rows = []
        for row in questions.to_pylist():
            for at in range(1 if row["split"] == HELD_OUT else 2):
                answer, reward = self.answers(number, row, at)
                ids = list(answer.encode())
                paid = {"sample_id": f"{number} {row['prompt_id']} {at}", "sample": at, "answer": answer, "ids": ids}
                rows.append({**row, **paid, "finish_reason": self.finish, "logprob": -0.5 * len(ids), "reward": reward})
        self.sampled.setdefault(number, threading.Event()).set()
        return pa.Table.from_pylist(rows, schema=SAMPLE)

    def score(self, samples: pa.Table, number: int) -> Scored:
        reason = "budget_exhausted" if self.unpaid else "error"
        rows = [{"example_id": name, "teacher": "t", "finish_reason": reason} for name in samples["sample_id"].to_pylist()]
        metrics = CaptureMetrics(constraint="none", gate="none", teachers={}, tokens_paid=0)
        return Scored(pa.Table.from_pylist(rows, schema=CAPTURE), VOCABULARY.empty_table(), metrics)

    def running(self) -> bool:
        return self.alive

    def train(self, order: RoundSpec) -> Path:
        before = Path(order.previous).parent.name if order.previous else "start"
        self._note(f"train {order.number} from {before}, {len(load(Folder(order.rollouts)))} samples, {order.steps} steps")
        older = Path(order.sampled_by or "none")
        self.older.append(older.parent.parent.name if older.name == "best" else "start" if order.sampled_by else "")
        if order.number <= self.ahead:
            assert self.sampled.setdefault(order.number + 1, threading.Event()).wait(20), "no samples while it trains"
        folder = self.store / f"round-{order.number}" / "checkpoint"
        (folder / "best").mkdir(parents=True, exist_ok=True)
        curve = [{"loss": loss} for loss in self.losses]
        Progress(step=order.steps, tokens=7, curve=curve, is_over=True).write(folder)
        return folder

    def _note(self, what: str) -> None:
        if self.dies_in and what.startswith(self.dies_in):
            self.dies_in = ""
            raise KeyboardInterrupt
        self.did.append(what)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    small_tokenizer.write(folder, small_tokenizer.template())
    return folder


def plan(folder: Path, start: Path, section: OnPolicy = GRPO) -> rounds.Plan:
    asked = [{"role": "user", "content": "x"}]
    same = {"task_unit": "u", "messages": asked, "asked": asked, "text": "x", "scenario": "", "language": ""}
    rows = [{**same, "prompt_id": f"{at}", "split": HELD_OUT if at == 0 else TRAIN} for at in range(3)]
    questions = Questions(pa.Table.from_pylist(rows, schema=QUESTION), np.asarray([[1, 2]] * section.rounds), np.asarray([0]))
    return rounds.Plan("s", section, start, questions, Folder(str(folder)), 2)


def better(number: int, row: Row, at: int) -> tuple[str, float]:
    """One of two samples is right; the held-out answer gets better."""
    return f"answer {at}", number / 4 if row["split"] == HELD_OUT else float(at)


def test_each_round_samples_with_the_weights_of_the_one_before_and_goes_on_from_its_checkpoint(tmp_path: Path, start: Path) -> None:
    stages = Scripted(tmp_path, better)
    found = rounds.run(plan(tmp_path, start), stages)
    assert stages.did == [
        "sample 1 by start", "train 1 from start, 4 samples, 2 steps",
        "sample 2 by round-1", "train 2 from round-1, 4 samples, 2 steps",
        "sample 3 by round-2", "train 3 from round-2, 4 samples, 2 steps",
        "sample 4 by round-3",
    ]  # fmt: skip
    assert found.model == tmp_path / "round-3" / "checkpoint" / "best" and found.metrics.kept == 3
    assert [each.held_out.score for each in found.metrics.rounds] == [0.25, 0.5, 0.75] and found.metrics.final.score == 1.0
    assert [each.loss for each in found.metrics.rounds] == [0.75] * 3 and found.metrics.ended_by == "rounds"
    assert not (tmp_path / "round-1" / "checkpoint").exists()  # nothing goes back to it


AHEAD = GRPO.model_copy(update={"async_level": 1, "rounds": 4})


def test_samples_of_the_next_round_are_drawn_while_one_trains(tmp_path: Path, start: Path) -> None:
    stages = Scripted(tmp_path, better, ahead=3)
    found = rounds.run(plan(tmp_path, start, AHEAD), stages)
    assert [each for each in stages.did if each.startswith("sample")] == [
        "sample 1 by start", "sample 2 by start", "sample 3 by round-1", "sample 4 by round-2", "sample 5 by round-4",
    ]  # fmt: skip
    trained = [each.partition(",")[0] for each in stages.did if each.startswith("train")]
    assert trained == ["train 1 from start", *(f"train {number} from round-{number - 1}" for number in (2, 3, 4))]
    assert stages.older == ["", "start", "round-1", "round-2"]
    assert found.model == tmp_path / "round-4" / "checkpoint" / "best" and found.metrics.kept == 4
    assert found.metrics.final.score == 1.25 and found.metrics.ended_by == "rounds"


@pytest.mark.parametrize("place", ["sample 1", "train 1", "sample 2", "train 2", "sample 3", "train 3", "sample 5"])
def test_a_later_attempt_has_the_samples_of_the_same_weights_when_rounds_overlap(tmp_path: Path, start: Path, place: str) -> None:
    stages = Scripted(tmp_path, better, dies_in=place)
    with pytest.raises(KeyboardInterrupt):
        rounds.run(plan(tmp_path, start, AHEAD), stages)
    found = rounds.run(plan(tmp_path, start, AHEAD), stages)
    trained = [each for each in stages.did if each.startswith("train")]
    assert len(trained) == len(set(trained)) == 4 and found.metrics.kept == 4
    assert set(stages.did) - set(trained) == {
        "sample 1 by start", "sample 2 by start", "sample 3 by round-1", "sample 4 by round-2", "sample 5 by round-4",
    }  # fmt: skip


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize(("shown_in", "kept", "collapsed"), [(3, 0, 1), (4, 1, 2), (5, 2, 4)])
def test_a_collapse_keeps_the_last_weights_that_were_measured_when_rounds_overlap(
    tmp_path: Path, start: Path, shown_in: int, kept: int, collapsed: int, attempts: int
) -> None:
    def babbles(number: int, row: Row, at: int) -> tuple[str, float]:
        return "la " * (20 if number == shown_in else 3), better(number, row, at)[1]

    section = AHEAD
    found = [rounds.run(plan(tmp_path, start, section), Scripted(tmp_path, babbles)) for _ in range(attempts)][-1]
    assert found.metrics.ended_by == "collapse" and f"after round {collapsed} the mean length" in found.metrics.why
    expected = tmp_path / f"round-{kept}" / "checkpoint" / "best" if kept else start
    assert found.metrics.kept == kept and found.model == expected and found.model.exists()
    assert found.metrics.final == found.metrics.rounds[shown_in - 2].held_out


def test_what_ends_rounds_that_overlap_keeps_weights_that_were_measured(tmp_path: Path, start: Path) -> None:
    def solved(number: int, row: Row, at: int) -> tuple[str, float]:
        return "x", 1.0 if number == 4 else float(at)

    found = rounds.run(plan(tmp_path, start, AHEAD), Scripted(tmp_path, solved))
    assert found.metrics.ended_by == "no_signal" and found.metrics.kept == 2 and found.model.exists()
    broken = Scripted(tmp_path / "b", better, losses=[float("nan")], ahead=1)
    found = rounds.run(plan(tmp_path / "b", start, AHEAD), broken)
    assert found.metrics.ended_by == "collapse" and found.metrics.kept == 0 and found.model == start
    assert [each for each in broken.did if each.startswith("sample")] == ["sample 1 by start", "sample 2 by start"]


def test_a_training_that_fails_ends_after_the_samples_that_were_begun(tmp_path: Path, start: Path) -> None:
    class Fails(Scripted):
        def train(self, order: RoundSpec) -> Path:
            raise ModelError("the disk is full")

    stages = Fails(tmp_path, better)
    with pytest.raises(ModelError, match="the disk is full"):
        rounds.run(plan(tmp_path, start, AHEAD), stages)
    assert stages.did == ["sample 1 by start", "sample 2 by start"]


class Hangs(Scripted):
    """The samples of the second round never end, and Ray is stopped while the first one trains."""

    def sample(self, model: Path, questions: pa.Table, number: int) -> pa.Table:
        if number == 2:
            threading.Event().wait()
        return super().sample(model, questions, number)

    def train(self, order: RoundSpec) -> Path:
        self.alive = False
        return super().train(order)


class HangsAndFails(Hangs):
    def train(self, order: RoundSpec) -> Path:
        super().train(order)
        raise ModelError("the disk is full")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("kind", "said"), [(Hangs, "student s: Ray was stopped. Run again"), (HangsAndFails, "the disk is full")])
def test_samples_that_never_end_are_not_waited_for_once_ray_was_stopped(
    kind: type[Scripted], said: str, tmp_path: Path, start: Path
) -> None:
    with pytest.raises(ModelError, match=said):
        rounds.run(plan(tmp_path, start, AHEAD), kind(tmp_path, better))


@pytest.mark.parametrize("fails", [True, False])
def test_an_error_of_the_samples_is_told_beside_that_of_the_training(fails: bool, tmp_path: Path, start: Path) -> None:
    class Both(Scripted):
        def sample(self, model: Path, questions: pa.Table, number: int) -> pa.Table:
            if number == 2:
                raise InputError("no prompt fits")
            return super().sample(model, questions, number)

        def train(self, order: RoundSpec) -> Path:
            if fails:
                raise ModelError("the disk is full")
            return super().train(order)

    lines: list[str] = []
    ordered = replace(plan(tmp_path, start, AHEAD), log=lines.append)
    if fails:
        with pytest.raises(ModelError, match="the disk is full") as caught:
            rounds.run(ordered, Both(tmp_path, better))
        assert caught.value.__notes__ == ["The samples of round 2 failed, too: InputError: no prompt fits"]
        return
    assert rounds.run(ordered, Both(tmp_path, better, losses=[float("nan")])).metrics.ended_by == "collapse"
    assert "s: the samples of round 2 failed: InputError: no prompt fits" in lines


@pytest.mark.parametrize("place", ["sample 1", "train 1", "sample 2", "train 2", "sample 3", "train 3", "sample 4"])
def test_a_later_attempt_goes_on_at_the_round_that_was_killed(tmp_path: Path, start: Path, place: str) -> None:
    stages = Scripted(tmp_path, better, dies_in=place)
    with pytest.raises(KeyboardInterrupt):
        rounds.run(plan(tmp_path, start), stages)
    found = rounds.run(plan(tmp_path, start), stages)
    trained = [each for each in stages.did if each.startswith("train")]
    assert len(trained) == len(set(trained)) == 3  # no finished round is trained again
    sampled = [each for each in stages.did if each.startswith("sample")]
    again = place.startswith("train")  # its samples are read from the ledger
    assert len(sampled) == 4 + again
    assert found.metrics.kept == 3 and found.metrics.final.score == 1.0


def test_rewards_that_are_all_nothing_are_an_error_before_anything_is_trained(tmp_path: Path, start: Path) -> None:
    stages = Scripted(tmp_path, lambda number, row, at: ("x", 0.0), finish="length")
    with pytest.raises(
        InputError, match=r"students.s.on_policy.rewards: all 4 samples of the first round have the reward 0 by regex"
    ):
        rounds.run(plan(tmp_path, start), stages)
    assert stages.did == ["sample 1 by start"]


def test_groups_without_signal_end_the_rounds(tmp_path: Path, start: Path) -> None:
    def solved(number: int, row: Row, at: int) -> tuple[str, float]:
        return "x", 1.0 if number == 2 else float(at)

    found = rounds.run(plan(tmp_path, start), Scripted(tmp_path, solved))
    assert found.metrics.ended_by == "no_signal" and "rewards of 100% of the groups of round 2 are all equal" in found.metrics.why
    assert found.metrics.kept == 1 and found.metrics.rounds[1].no_signal == 1.0 and found.metrics.rounds[1].learned == 0
    tolerant = GRPO.model_copy(update={"stop_no_signal": 1.0})
    assert rounds.run(plan(tmp_path / "b", start, tolerant), Scripted(tmp_path / "b", solved)).metrics.ended_by == "no_signal"


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_collapse_keeps_the_last_good_round(tmp_path: Path, start: Path, attempts: int) -> None:
    def babbles(number: int, row: Row, at: int) -> tuple[str, float]:
        return "la " * (20 if number == 3 else 3), better(number, row, at)[1]

    found = [rounds.run(plan(tmp_path, start), Scripted(tmp_path, babbles)) for _ in range(attempts)][-1]
    assert found.metrics.ended_by == "collapse" and "after round 2 the mean length" in found.metrics.why
    assert found.metrics.kept == 1 and found.model == tmp_path / "round-1" / "checkpoint" / "best" and found.model.exists()
    assert found.metrics.final == found.metrics.rounds[1].held_out and found.metrics.final.score == 0.5


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_loss_that_is_no_number_keeps_the_weights_before_it(tmp_path: Path, start: Path, attempts: int) -> None:
    broken = [1.0, float("nan")]
    found = [rounds.run(plan(tmp_path, start), Scripted(tmp_path, better, losses=broken)) for _ in range(attempts)][-1]
    assert found.metrics.ended_by == "collapse" and found.metrics.kept == 0 and found.model == start
    assert found.metrics.rounds[0].loss is None and found.metrics.final.score == 0.25


def test_a_budget_that_ends_and_a_teacher_with_other_tokens_are_named(tmp_path: Path, start: Path) -> None:
    found = rounds.run(plan(tmp_path, start, KL), Scripted(tmp_path, better, unpaid=True))
    assert found.metrics.ended_by == "budget" and "before 5 samples of round 1 were scored" in found.metrics.why
    assert found.metrics.kept == 0 and found.model == start and found.metrics.final.score is None
    assert "score unknown, held-out unknown" in rounds.as_text("s", found.metrics.rounds[0])
    with pytest.raises(ModelError, match=r"students.s.on_policy.teacher: the distribution of t lies on 0% of the student's tokens"):
        rounds.run(plan(tmp_path / "b", start, KL), Scripted(tmp_path / "b", better))


def test_a_round_in_words() -> None:
    held = {"answers": 1, "score": 0.5, "ended": 1, "length": 4, "repetition": 0, "entropy": 0.25}
    record = rounds.RoundMetrics.model_validate(
        {"round": 2, "held_out": held, "prompts": 1, "samples": 4, "learned": 2, "score": 0.75, "no_signal": 0.5}
    )
    words = "score 0.750, held-out 0.500, 2 of 4 samples, 50% of groups without signal, 4.0 tokens an answer, entropy 0.250"
    assert rounds.as_text("s", record) == f"s: on-policy round 2: {words}"
