"""On-policy rounds of a tiny real Llama in the world of `students_world`, in this process: real ledger, losses and DeepSpeed.

`python on_policy_world.py FOLDER` trains a student on examples for a little, and its teacher for longer; then the rounds of each of
RUNS, and those of BROKEN once more with interruptions. What came out is in FOLDER/NAME.json. The engine is transformers.
"""

import contextlib
import json
import shutil
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import students_world as world
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.capture.capturer import Capturer, CaptureSpec
from engine.capture.vocabulary import occurring, vocabulary
from engine.contract.capture import Capture
from engine.contract.checks import Regex
from engine.contract.models import Sampling, VllmModel
from engine.contract.on_policy import OnPolicy
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.contract.students import Student
from engine.contract.teachers import Teacher
from engine.inference import client
from engine.inference.client import ClientSpec
from engine.inference.engine import Completion, Request
from engine.inference.identity import identity
from engine.inference.scoring import Distribution, Target, top
from engine.inference.turn_marks import encode_chat, encode_text
from engine.records.capture import CaptureMetrics, TeacherCapture
from engine.storage.folder import Folder
from engine.students.data.pack import Packed
from engine.students.flow import joined
from engine.students.on_policy import rounds
from engine.students.on_policy.questions import Questions, draw
from engine.students.on_policy.rewards import Rewards, rewarded
from engine.students.on_policy.rollouts import Scored
from engine.students.on_policy.sampler import Sampler, SamplerSpec
from engine.students.on_policy.schemas import HELD_OUT, QUESTION, TRAIN
from engine.students.training import policy_round
from engine.students.training.checkpoint_state import Progress
from engine.students.training.state import RoundSpec, Training, TrainSpec, WorkerContext

SPECIALIST = Specialist(goal="copy", task_units=(world.UNIT,))
POOL = Pool(batch=12)
RATE = {"epochs": 10, "learning_rate": 1e-2, "freeze_embeddings": False, "early_stop": None, "batch_size": 8}
STARTS = (world.student("start", **{**world.SHORT, **RATE}), world.student("long", **{**world.SHORT, **RATE, "epochs": 30}))
BATCH = {"batch_size": 32, "micro_batch_size": 16}
COMMON: dict[str, Any] = {
    "rounds": 4,
    "prompts_per_round": 24,
    "samples": 6,
    "max_tokens": 8,
    "learning_rate": 2e-3,
    "held_out": 14,
}
CHECK = Regex(type="regex", name="form", pattern="[a-h]{4}!")
GRPO = {**COMMON, "objective": "grpo", "rewards": {"form": 1}}
KL = {**COMMON, "objective": "on_policy_kl", "teacher": "t", "k": 16, "rounds": 3}
RUNS = {
    **{f"grpo{seed}": (GRPO, seed) for seed in range(3)},
    **{f"kl{seed}": (KL, seed) for seed in range(3)},
    "ahead": ({**GRPO, "async_level": 1}, 0),
    "ahead_kl": ({**KL, "async_level": 1}, 0),
    "held": ({**GRPO, "rounds": 2, "kl": 0.1, "average": "answer", "scale": False, "steps_per_round": 8}, 0),
}
ZERO = {"held": 3}
BROKEN = {"held": (3, 5, 9, 11, 14, 17, 20, 23, 27, 30), "kl0": (2, 7, 12, 16, 21, 25, 30, 36, 41, 47)}
"""Run -> numbers of batches and steps at which an attempt is interrupted, counted over all attempts."""


LOADING = threading.Lock()
"""Rounds that overlap load models in two threads, which are two processes on Ray: transformers ties weights in one at a time."""


class Interrupted(BaseException):
    """The end of an attempt, which is no fault of a request."""


@dataclass
class Moments:
    """Counts the batches of the engines and the steps of the trainings."""

    ends: tuple[int, ...] = ()
    seen: int = 0
    sampled: int = 0
    scored: int = 0

    def __call__(self, *, sampled: int = 0, scored: int = 0) -> None:
        self.seen += 1
        self.sampled += sampled
        self.scored += scored
        if self.seen in self.ends:
            raise Interrupted


class TinyEngine:
    """A model of transformers that samples with a generator for each request."""

    moments = Moments()

    def __init__(self, model: VllmModel, pool: Pool, folder: Path | None) -> None:
        assert folder is not None
        self.identity, self.tokens_read = identity(model, folder), 0
        with LOADING:
            self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def reset_prefix_cache(self) -> None:
        """Do nothing: there is no cache."""

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        prompts = [encode_chat(self.tokenizer, request.chat) for request in requests]
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        answers: list[list[int]] = [[] for _ in requests]
        sums, end = [0.0] * len(requests), self.tokenizer.eos_token_id
        for _ in range(sampling.max_tokens):
            open_ = [at for at, answer in enumerate(answers) if end not in answer]
            if not open_:
                break
            logits = self._logits([prompts[at] + answers[at] for at in open_])[:, -1].log_softmax(dim=1)
            for row, at in zip(logits, open_, strict=True):
                token = int(torch.multinomial((row / sampling.temperature).softmax(dim=0), 1, generator=generators[at]))
                answers[at].append(token)
                sums[at] += float(row[token])
        self.moments(sampled=len(requests))
        texts = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [
            Completion(text, "stop" if end in ids else "length", len(prompt), len(ids), total, token_ids=ids)
            for text, ids, prompt, total in zip(texts, answers, prompts, sums, strict=True)
        ]

    def distributions(self, targets: Sequence[Target], k: int) -> list[Distribution]:
        found, end = [], [self.tokenizer.eos_token_id]
        texts = [encode_text(self.tokenizer, target.text) + end for target in targets]
        rows = [encode_chat(self.tokenizer, target.chat) + tokens[:-1] for target, tokens in zip(targets, texts, strict=True)]
        for row, tokens, logits in zip(rows, texts, self._logits(rows), strict=True):
            scores = top(logits[-len(tokens) :], torch.tensor(tokens), k)
            found.append(Distribution(np.asarray(tokens, np.int32), *scores, len(row)))
        self.moments(scored=len(targets))
        return found

    def _logits(self, rows: Sequence[list[int]]) -> torch.Tensor:
        width = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)
        with torch.no_grad():
            return self.model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False).logits


@dataclass
class Stages:
    """The real sampler, capturer, rewards and training, without Ray."""

    folder: Path
    student: Student
    store: Path
    moments: Moments
    drawn: dict[tuple[int, ...], float] = field(default_factory=dict)
    """Tokens of prompt and sample -> log-probability of the sample when it was drawn."""
    off_policy: list[tuple[float, float]] = field(default_factory=list)
    """Of each training on older samples: the largest difference of a sample's old log-probability to that of its drawing, and to
    that of the weights in training."""

    @property
    def section(self) -> OnPolicy:
        assert self.student.on_policy is not None
        return self.student.on_policy

    def sample(self, model: Path, questions: pa.Table, number: int) -> pa.Table:
        samples = Sampler(SamplerSpec(self.section, self._client(model, "samples"), self.student.seed, number))(questions)
        tokenizer = AutoTokenizer.from_pretrained(model)
        self.drawn |= {(*encode_chat(tokenizer, row["messages"]), *row["ids"]): row["logprob"] for row in samples.to_pylist()}
        return rewarded(samples, Rewards.of([CHECK], {"form": 1.0}, SPECIALIST))

    def score(self, samples: pa.Table, number: int) -> Scored:
        spec = self._client(self.folder / "alone" / "long" / "best", "scores")
        capture = Capture(teachers={"t": 1.0}, k=self.section.k, constraint="none")
        teacher = Teacher(name="t", model=spec.model, structured=False)
        rows = Capturer(CaptureSpec(capture, teacher, SPECIALIST, spec))(joined(samples, "t"))
        words = vocabulary(spec.model, spec.weights)
        counts = dict.fromkeys(("examples", "masked", "target_tokens", "tokens_read"), 0)
        means = dict.fromkeys(("agreement", "mean_k", "mean_tail", "bytes_per_token"), 0.0)
        teachers = {"t": TeacherCapture.model_validate({**counts, **means})}
        metrics = CaptureMetrics(constraint="none", gate="none", teachers=teachers, tokens_paid=0)
        return Scored(rows, occurring(words, "t", words["id"].to_pylist()), metrics)

    def running(self) -> bool:
        return True

    def train(self, order: RoundSpec) -> Path:
        target = self.store / f"round-{order.number}" / "checkpoint"

        def keep(checkpoint: Path) -> None:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(checkpoint, target)

        def on_step(progress: Progress, steps: int) -> None:
            self.moments()

        begin, save = policy_round.begin, policy_round.save

        def begun(spec: TrainSpec, worker: WorkerContext, scratch: Path) -> Training:
            with LOADING:
                training = begin(spec, worker, scratch)
            packed = training.splits["train"]
            if order.sampled_by and packed.policy is not None:
                now = self._of_samples(packed, policy_round.log_probs(training, packed))
                old = self._of_samples(packed, packed.policy.old)
                drawn = np.asarray([self.drawn[tuple(packed.ids[at:end])] for at, end in pairwise(packed.starts)])
                self.off_policy.append((float(np.abs(old - drawn).max()), float(np.abs(old - now).max())))
            return training

        def saved(training: Training) -> None:
            with LOADING:
                save(training)

        policy_round.begin, policy_round.save = begun, saved
        resume = target if target.exists() else None
        spec = replace(world.spec_for(self.folder, self.student), round=order)
        try:
            policy_round.run(spec, WorkerContext(0, 1, torch.device("cpu"), resume, keep, on_step))
        finally:
            policy_round.begin, policy_round.save = begin, save
        return target

    def _of_samples(self, packed: Packed, of_tokens: np.ndarray) -> np.ndarray:
        return np.asarray([of_tokens[packed.tokens_of(np.asarray([row]))].sum() for row in range(len(packed))])

    def _client(self, model: Path, kind: str) -> ClientSpec:
        ledger, markers, budget = (Folder(str(self.store / kind / name)) for name in ("ledger", "markers", "budget"))
        return ClientSpec(VllmModel(type="vllm", path=str(model), dtype="float32"), POOL, model, ledger, markers, budget)


def questions(section: OnPolicy, seed: int) -> Questions:
    rows = [
        {
            **{name: row[name] for name in ("prompt_id", "task_unit", "messages")}, "asked": row["messages"],
            "text": row["messages"][0]["content"], "scenario": "", "language": "",
            "split": TRAIN if row["split"] == "train" else HELD_OUT,
        }
        for row in world.examples()[:-1]
    ]  # fmt: skip
    drawn = draw(world.TRAIN, section.rounds, section.prompts_per_round, np.random.default_rng(seed))
    held_out = np.arange(world.TRAIN, world.TRAIN + world.VALIDATION)
    return Questions(pa.Table.from_pylist(rows, schema=QUESTION), drawn, held_out)


def run(folder: Path, name: str, kind: str, ends: tuple[int, ...]) -> None:
    """Do the rounds of the run `name`, in as many attempts as there are `ends` and one more; write what came out."""
    ordered, seed = RUNS[name]
    student = world.student(name, **{**world.SHORT, **RATE, **BATCH, "on_policy": ordered, "seed": seed, "zero": ZERO.get(name, 2)})
    section, store, start = OnPolicy.model_validate(ordered), folder / kind / name, folder / "alone" / "start" / "best"
    TinyEngine.moments = moments = Moments(ends)
    asked, outcome = questions(section, seed), None
    stages = Stages(folder, student, store, moments)
    attempts = 0
    while outcome is None:
        attempts += 1
        with contextlib.suppress(Interrupted):
            outcome = rounds.run(rounds.Plan(name, section, start, asked, Folder(str(store)), 32), stages)
    TinyEngine.moments = Moments()
    held = asked.rows.take(pa.array(asked.held_out))
    held = held.set_column(1, "split", pa.array([TRAIN] * held.num_rows))
    shares = [float(np.mean(stages.sample(model, held, 99)["reward"].to_pylist())) for model in (start, outcome.model)]
    result = {
        "metrics": outcome.metrics.model_dump(), "held_out": shares, "model": str(outcome.model), "attempts": attempts,
        "sampled": moments.sampled, "scored": moments.scored, "off_policy": stages.off_policy,
    }  # fmt: skip
    (folder / f"{kind}-{name}.json").write_text(json.dumps(result))


def main(folder: Path) -> None:
    world.begin()
    client.build_model = lambda model, pool, *, folder: TinyEngine(model, pool, folder)  # type: ignore[assignment]
    for each in STARTS:
        world.run_alone(folder, each, "alone", ())
    for name in RUNS:
        run(folder, name, "whole", ())
        if name in BROKEN:
            run(folder, name, "broken", BROKEN[name])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
