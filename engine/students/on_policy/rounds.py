"""The rounds of a student: sample, score or reward, train; go on where an earlier attempt ended.

A round begins with the student's answers to the held-out prompts and to its share of the training prompts. The first show whether
the weights of the round before are sound: if they have collapsed, those before them are kept. Samples and scores are in the
ledger, and a round that was trained has a record beside its checkpoint, so that a later attempt goes on after it. The samples of a
round are in memory, some KB each.

With `async_level: 1` a round samples while the one before trains, so by weights that are one round older. What a round's held-out
answers show is of the weights that gave them, and only weights that were measured can become the student.
"""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from engine.contract.on_policy import OnPolicy
from engine.errors import InputError, ModelError
from engine.records.on_policy import Ending, HeldOut, OnPolicyMetrics, RoundMetrics
from engine.rows import Row
from engine.storage.folder import Folder
from engine.students.on_policy import ahead as beside
from engine.students.on_policy import guard, rollouts
from engine.students.on_policy.questions import Questions
from engine.students.on_policy.schemas import HELD_OUT
from engine.students.on_policy.store import RECORD, read
from engine.students.training.checkpoint_state import Progress
from engine.students.training.state import BEST, RoundSpec

LEAST_ALIGNED = 0.5
"""Share of the sampled tokens on which the teacher's distribution must lie."""


class Stages(Protocol):
    """What the rounds do with models, on Ray or in this process."""

    def sample(self, model: Path, questions: pa.Table, number: int) -> pa.Table:
        """Return SAMPLE of QUESTION rows in round `number` by the student in the folder `model`, with rewards if there are any."""
        ...

    def score(self, samples: pa.Table, number: int) -> rollouts.Scored:
        """Return the teacher's distributions at the tokens of `samples`."""
        ...

    def train(self, order: RoundSpec) -> Path:
        """Train a round; return its checkpoint, which stays where it is."""
        ...

    def running(self) -> bool:
        """Return whether what was begun can still end: not once Ray was stopped."""
        ...


@dataclass(frozen=True)
class Plan:
    """What the rounds of one student follow."""

    name: str
    section: OnPolicy
    start: Path
    """Model before the first round."""
    questions: Questions
    store: Folder
    """Records, samples to learn from, and checkpoints of the rounds; on a file system that all workers reach."""
    batch_size: int
    """Samples of an optimizer step."""
    log: Callable[[str], None] = field(default=lambda line: None)

    @cached_property
    def tokenizer(self) -> Any:
        """Of the student."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.start, local_files_only=True, trust_remote_code=False)


class Outcome(NamedTuple):
    """What became of the rounds."""

    model: Path
    metrics: OnPolicyMetrics


class Seen(NamedTuple):
    """What a round has sampled, and what it shows."""

    metrics: RoundMetrics
    learned: rollouts.Learned
    unpaid: int  # samples that the budget did not reach


def run(plan: Plan, stages: Stages) -> Outcome:
    """Do the rounds that are left.

    Raises:
        InputError: no sample of the first round has a reward.
        ModelError: the teacher's distributions cannot be laid on the student's tokens, or Ray was stopped.
    """
    done, rounds = read(plan.store), plan.section.rounds
    ahead: Future[Seen] | None = None
    for number in range(len(done) + 1, rounds + 2):
        began = time.monotonic()
        if ahead and not beside.has_ended(ahead, stages.running):
            raise ModelError(f"student {plan.name}: Ray was stopped. Run again: it goes on after its last round.")
        seen, answered = ahead.result() if ahead else _see(plan, stages, done, number), answered_by(number, plan.section)
        start = done[0].held_out if done else seen.metrics.held_out
        if done and (why := guard.collapse(seen.metrics.held_out, start, plan.section.guards)):
            kept = done[: answered_by(number - 1, plan.section)]
            return _ended(plan, kept, done, "collapse", f"after round {answered} {why}", final=done[-1].held_out)
        _sweep(plan.store, done[: max(0, answered - 1)])
        ending, why = _ending(plan, seen, number)
        if ending:
            sampled = done if number > rounds else [*done, seen.metrics]
            return _ended(plan, done[:answered], sampled, ending, why, final=seen.metrics.held_out)
        is_ahead = plan.section.async_level and number < rounds  # after the last round its own weights are measured
        work = partial(_see, plan, stages, tuple(done), number + 1)
        ahead = beside.begin(f"{plan.name} round {number + 1}", work) if is_ahead else None
        try:
            done.append(_train(plan, stages, done, seen, began))
        except Exception as error:
            if failed := beside.failure(ahead, stages.running):
                error.add_note(f"The samples of round {number + 1} failed, too: {failed}")
            raise
        if done[-1].loss is None:
            if failed := beside.failure(ahead, stages.running):
                plan.log(f"{plan.name}: the samples of round {number + 1} failed: {failed}")
            why = f"the loss of round {number} is no number; lower its learning_rate"
            return _ended(plan, done[:answered], done, "collapse", why, final=seen.metrics.held_out)
    raise AssertionError("the last pass ends the rounds")


def answered_by(number: int, section: OnPolicy) -> int:
    """Return the round whose weights answer in round `number`; 0 = the student before the first one.

    After the last round, as number `rounds` + 1, its own weights are measured.
    """
    return max(0, number - 1 - (section.async_level if number <= section.rounds else 0))


def _see(plan: Plan, stages: Stages, done: Sequence[RoundMetrics], number: int) -> Seen:
    """Sample as the student is after those of the rounds `done` that `answered_by` names, and measure.

    After the last round only the held-out prompts are answered.
    """
    questions = plan.questions.of_round(number, plan.section, is_last=number > plan.section.rounds)
    plan.log(f"{plan.name}: on-policy round {number} of {plan.section.rounds}: {questions.num_rows} prompts are answered")
    model = _model(plan, done[: answered_by(number, plan.section)])
    samples = stages.sample(model, questions, number).sort_by([("prompt_id", "ascending"), ("sample", "ascending")])
    rows = samples.to_pylist()
    held, train = ([row for row in rows if (row["split"] == HELD_OUT) is wanted] for wanted in (True, False))
    if plan.section.rewards:
        scores = [[row["reward"] for row in part] for part in (held, train)]
        learned, unpaid = _rewarded(plan, train), 0
    else:
        teacher = stages.score(samples, number)
        scores = [rollouts.divergences(part, teacher) for part in (held, train)]
        learned = rollouts.scored(train, teacher, plan.tokenizer)
        unpaid = sum(reason == "budget_exhausted" for reason in teacher.rows["finish_reason"].to_pylist())
    metrics = RoundMetrics(
        round=number,
        held_out=guard.measure(held, scores[0]),
        prompts=len({row["prompt_id"] for row in train}),
        samples=len(train),
        score=round(float(np.mean(scores[1])), 6) if scores[1] else None,
        no_signal=learned.no_signal if train else None,
        aligned=learned.aligned if train else None,
    )
    return Seen(metrics, learned, unpaid)


def _rewarded(plan: Plan, rows: Sequence[Row]) -> rollouts.Learned:
    section = plan.section
    return rollouts.rewarded(
        rows, plan.tokenizer, samples=section.samples, scale=section.scale, by_answer=section.average == "answer"
    )


def _ending(plan: Plan, seen: Seen, number: int) -> tuple[Ending | None, str]:
    """Return what ends the rounds before this one trains, and why; None if nothing does.

    Raises:
        InputError: no sample of the first round has a reward.
        ModelError: the teacher's distributions cannot be laid on the student's tokens.
    """
    section, metrics, key = plan.section, seen.metrics, f"students.{plan.name}.on_policy"
    if seen.unpaid:
        return "budget", (
            f"budget.teacher_tokens was spent before {seen.unpaid} samples of round {number} were scored: raise it, delete the "
            f"artifact students/{plan.name} and run again"
        )
    if number > section.rounds:
        return "rounds", ""
    if number == 1 and section.rewards and not metrics.score:
        raise InputError(
            f"{key}.rewards: all {metrics.samples} samples of the first round have the reward 0 by {', '.join(section.rewards)}, "
            "so there is nothing to learn from. Train the student longer on examples, reward what it reaches, or raise max_tokens "
            f"({section.max_tokens}) if the samples have no end: {metrics.held_out.ended:.0%} of the held-out ones have one."
        )
    if metrics.no_signal is not None and (metrics.no_signal > section.stop_no_signal or metrics.no_signal == 1):
        return "no_signal", (
            f"the rewards of {metrics.no_signal:.0%} of the groups of round {number} are all equal (stop_no_signal: "
            f"{section.stop_no_signal:.0%}): their mean is {metrics.score}. Take harder rewards or prompts, more samples or a "
            "higher temperature"
        )
    if metrics.aligned is not None and metrics.aligned < LEAST_ALIGNED:
        raise ModelError(
            f"{key}.teacher: the distribution of {section.teacher} lies on {metrics.aligned:.0%} of the student's tokens, expected "
            f"at least {LEAST_ALIGNED:.0%}: their tokenizers differ, or the samples have no text. Name a teacher with the "
            "student's tokenizer."
        )
    if not len(seen.learned.packed):
        raise ModelError(f"{key}: none of the {metrics.samples} samples of round {number} has a token; raise max_tokens.")
    return None, ""


def _train(plan: Plan, stages: Stages, done: Sequence[RoundMetrics], seen: Seen, began: float) -> RoundMetrics:
    """Train on what was sampled; return the record of the round, which is on the disk."""
    number, packed = seen.metrics.round, seen.learned.packed
    folder = plan.store / f"round-{number}"
    rollouts.save(packed, folder)
    steps = plan.section.steps_per_round or -(-len(packed) // plan.batch_size)
    previous = str(Path(plan.store.path, done[-1].checkpoint)) if done else ""
    answered = answered_by(number, plan.section)
    older = str(_model(plan, done[:answered])) if answered < len(done) else ""
    checkpoint = stages.train(RoundSpec(number, folder.url, str(plan.start), previous, steps, sampled_by=older))
    progress = Progress.read(checkpoint)
    loss = float(np.mean([entry["loss"] for entry in progress.curve]))
    record = seen.metrics.model_copy(
        update={
            "learned": len(packed),
            "steps": progress.step,
            "tokens": progress.tokens,
            "loss": loss if math.isfinite(loss) else None,
            "seconds": round(time.monotonic() - began, 1),
            "checkpoint": checkpoint.resolve().relative_to(Path(plan.store.path).resolve()).as_posix(),
        }
    )
    if record.loss is not None:  # else a later attempt would go on from it
        folder.write(RECORD, record.model_dump_json(indent=1).encode(), durable=True)
    plan.log(as_text(plan.name, record))
    return record


def as_text(name: str, record: RoundMetrics) -> str:
    """Return the record of a round in one line."""
    scores = ["unknown" if score is None else f"{score:.3f}" for score in (record.score, record.held_out.score)]
    parts = [f"score {scores[0]}, held-out {scores[1]}", f"{record.learned} of {record.samples} samples"]
    parts += [f"{record.no_signal:.0%} of groups without signal"] if record.no_signal is not None else []
    parts += [f"{record.held_out.length:.1f} tokens an answer", f"entropy {record.held_out.entropy:.3f}"]
    return f"{name}: on-policy round {record.round}: {', '.join(parts)}"


def _ended(
    plan: Plan,
    kept: Sequence[RoundMetrics],
    rounds: Sequence[RoundMetrics],
    ending: Ending,
    why: str,
    *,
    final: HeldOut,
) -> Outcome:
    """Return the outcome with the weights after the rounds `kept`; `final` is what was measured of them."""
    metrics = OnPolicyMetrics(
        objective=plan.section.objective, rounds=tuple(rounds), final=final, kept=len(kept), ended_by=ending, why=why
    )
    return Outcome(_model(plan, kept), metrics)


def _model(plan: Plan, done: Sequence[RoundMetrics]) -> Path:
    return Path(plan.store.path, done[-1].checkpoint, BEST) if done else plan.start


def _sweep(store: Folder, done: Sequence[RoundMetrics]) -> None:
    """Remove the checkpoints of rounds to which nothing goes back."""
    for record in done:
        store.remove(record.checkpoint)
