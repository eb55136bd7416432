"""On-policy training of a student: it learns from its own samples, which a teacher scores or checks reward."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section, Share, added
from engine.contract.capture import MOST

if TYPE_CHECKING:
    from engine.contract.contract import Contract

SELF, SOURCE = "self", "source"
"""Teachers of `on_policy_kl` that are no teacher of the contract."""
SCORES = ("vllm", "student", "release", "fake")
"""Types of models that score the samples: they run in our own processes."""


class Guards(Section):
    """What ends the rounds as a collapse: answers to the same held-out prompts, compared with those before the first round."""

    length: float = Field(default=2.0, gt=1)
    """Largest factor by which the mean length of the answers may grow or shrink."""
    repetition: Share = 0.2
    """Largest rise of the mean share of an answer's 3-grams that repeat an earlier one (seq-rep-n: Welleck et al., 2020)."""
    entropy: Share = 0.1
    """Least entropy of a token, as a share of the one before the first round. It is not looked at if that was below 0.02 nats."""
    score: float | None = Field(default=0.1, gt=0)
    """Largest fall of the held-out score, in addition to two standard errors of the difference: of the mean reward, or of minus the
    divergence from the teacher in nats per token. Null = any."""


class OnPolicy(Section):
    """Rounds after the training on examples: sample the student's answers to training prompts, score or reward them, train on them.

    The samples are decoded without a grammar, and learned in the tokens in which they were sampled.
    """

    objective: Literal["on_policy_kl", "grpo"]
    """`on_policy_kl`: a divergence from the teacher's distribution over the sampled tokens (Agarwal et al., "On-policy distillation
    of language models", 2024); `grpo`: group relative policy optimisation of `rewards` (Shao et al., "DeepSeekMath", 2024)."""
    rounds: Positive = 4
    prompts_per_round: Positive = 64
    """Training prompts of a round; all have been drawn once before one is drawn again."""
    samples: Positive = 4
    """Answers sampled for each prompt; for `grpo` the size of a group."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the samples."""
    max_tokens: Positive = 128
    """Most tokens of a sample."""
    steps_per_round: Positive | None = None
    """Optimizer steps of a round; null = as many as show each sample once."""
    async_level: Literal[0, 1] = added(0)
    """Rounds by which samples are older than the weights that learn from them. 0: models take turns; 1: while a round trains, the
    samples of the next one are drawn, by the weights before this training (one-step off-policy: Noukhovitch et al., "Asynchronous
    RLHF", 2025), for a cluster that has room for both at once. Elsewhere they wait for each other, and the result is the same;
    nothing warns of that before the run. The ratio of `grpo` is to the probabilities of the weights that sampled."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Constant. The student's own rate is for a model that has yet to learn the task."""
    teacher: Name | None = None
    """Who scores in `on_policy_kl`: a teacher of the contract with its own prompt; `self`: the student as it was before the first
    round; `source`: the model that it was made from. The last two get the student's prompt."""
    instruction: str = ""
    """System text that `self` or `source` get before the student's own: what they are told and the student shall know without."""
    divergence: Literal["reverse_kl", "forward_kl", "jsd"] = "reverse_kl"
    """Divergence of `on_policy_kl`, as the objectives of that name."""
    beta: float = Field(default=0.5, gt=0, lt=1)
    """Share of the teacher in the mixture of `jsd`."""
    k: int = Field(default=64, gt=0, le=MOST)
    """Most probable tokens of the teacher at each sampled token, beside that token itself and the mass of all others."""
    rewards: dict[Name, float] = Field(default_factory=dict)
    """Rewards of `grpo`: name of a check of `judges.checks` -> its weight. The reward of an answer is the weighted share of those
    that it passes, of the checks that apply to its task unit; a sample without an end passes none."""
    clip: float = Field(default=0.2, gt=0, lt=1)
    """How far the ratio of new and old probability of a token counts (`grpo`)."""
    kl: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the student before the first round (`grpo`)."""
    average: Literal["token", "answer"] = "token"
    """Over what the loss of `grpo` is a mean. `answer`: each answer counts the same, as in the paper, so that a token of a long
    wrong answer is punished less; `token`: each token does (Liu et al., "Understanding R1-Zero-like training", 2025)."""
    scale: bool = True
    """Divide advantages by the deviation of the group's rewards, as in the paper. Liu et al. do not: it gives more weight to
    groups whose rewards are almost equal."""
    held_out: Positive = 64
    """Prompts of validation examples that are answered in each round, once each: the score and the guards are measured on them."""
    stop_no_signal: Share = 0.8
    """Share of groups whose rewards are all equal, above which the rounds end (`grpo`)."""
    guards: Guards = Guards()

    @model_validator(mode="after")
    def objective_has_what_it_needs(self) -> "OnPolicy":
        if self.objective == "grpo":
            if not self.rewards:
                raise ValueError("rewards: found none, expected checks of judges.checks with weights, such as {json_schema: 1}")
            if min(self.rewards.values()) <= 0:
                raise ValueError(f"rewards: found {self.rewards}, expected weights above 0; leave out a check that counts nothing")
            if self.samples < 2:
                raise ValueError(f"samples: found {self.samples}, expected at least 2: an answer is compared with its group")
            given = [key for key in ("teacher", "instruction") if getattr(self, key)]
        else:
            if self.teacher is None:
                raise ValueError(f"teacher: is needed: the name of a teacher, or `{SELF}` or `{SOURCE}`")
            given = [key for key in ("rewards", "kl") if getattr(self, key)]
        if given:
            raise ValueError(f"{', '.join(given)}: not used by {self.objective}; take it out")
        return self

    @model_validator(mode="after")
    def instruction_is_for_those_who_read_it(self) -> "OnPolicy":
        if self.teacher == SELF and not self.instruction:
            raise ValueError(
                "instruction: is needed with teacher self: under the same prompt the student's own distribution teaches nothing"
            )
        if self.instruction and self.teacher not in (SELF, SOURCE):
            raise ValueError(f"instruction: found one for the teacher {self.teacher}, which has its own in teachers.models")
        return self


def problems(contract: "Contract") -> Iterator[str]:
    """Yield what the rest of `contract` lacks for its students' rounds."""
    for number, student in enumerate(contract.students):
        if student.on_policy is not None:
            path = f"students.{number}.on_policy"
            if contract.teachers.mode == "tools":
                yield f"{path}: found teachers.mode tools, expected another: a sample has one turn, and calls no tool"
            if student.init.adapter:
                yield f"{path}: found init.adapter, expected none: the rounds train the merged model with all its weights"
            yield from _rewards(contract, student.on_policy, path)
            yield from _teacher(contract, student.on_policy, path)


def _rewards(contract: "Contract", section: OnPolicy, path: str) -> Iterator[str]:
    names = [check.title for check in contract.judges.checks]
    for name in section.rewards:
        if names.count(name) != 1:
            expected = f"one of the checks {names}" if name not in names else "a name that one check alone has; give each a `name`"
            yield f"{path}.rewards: found {name!r}, expected {expected}"


def _teacher(contract: "Contract", section: OnPolicy, path: str) -> Iterator[str]:
    named = {teacher.name: teacher for teacher in contract.teachers.models}
    if section.teacher in (SELF, SOURCE) and section.teacher in named:
        yield f"{path}.teacher: {section.teacher} is the student's own model, and a teacher has that name, too; rename the teacher"
    if section.teacher in (None, SELF, SOURCE):
        return
    found = named.get(section.teacher)
    if found is None:
        yield f"{path}.teacher: found {section.teacher!r}, expected {SELF}, {SOURCE}, or one of teachers.models {list(named)}"
    elif found.model.type not in SCORES:
        yield (
            f"{path}.teacher: {section.teacher} is of type {found.model.type}, which gives no log-probabilities of samples here; "
            f"expected {', '.join(SCORES[:-1])}, or {SELF} or {SOURCE}"
        )
    elif found.thinks:
        yield f"{path}.teacher: {section.teacher} reasons before it answers, and would score a sample without its reasoning"
