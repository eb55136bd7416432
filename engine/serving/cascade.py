"""Who answers a request: the niche check, then one stage after the other, each asked only if those before were not sure.

Nothing is asked here. `Cascade.next` reads what happened so far and says what to do: ask a stage, or end the request in one of four
ways. So the same decisions are made by a server, a batch job and a test.

    answer    a stage was sure: its confidence is at least its threshold, and its answer is complete
    abstain   the request is outside the niche, or every stage was unsure; no answer is given, and the reason is
    queue     a person answers later
    error     a stage failed and no later one answered, or `unsure: error`

An answer below its threshold, or of a stage that failed, is never given: a fallback that fails makes an error, not a cheaper wrong
answer. A stage whose certificate has expired answers nothing; what it would have been asked goes to the next one.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from engine.contract.serving import PERSON, Stage
from engine.contract.serving import Cascade as Section
from engine.serving.niche import Verdict

Action = Literal["ask", "answer", "abstain", "queue", "error"]


class Attempt(NamedTuple):
    """What came of asking a stage."""

    stage: str
    answer: str | None = None
    confidence: float | None = None  # probability of the whole answer; None = the model gives none
    finish_reason: str = "stop"
    error: str = ""  # why there is no answer: a timeout, a refusal by the server, a crash

    @property
    def failed(self) -> bool:
        """Whether the stage gave no complete answer."""
        return bool(self.error) or self.answer is None or self.finish_reason != "stop"

    @property
    def why(self) -> str:
        """Why it gave none."""
        return self.error or (f"ended as {self.finish_reason}" if self.finish_reason != "stop" else "no answer")


class Step(NamedTuple):
    """What to do next with a request."""

    action: Action
    stage: str = ""  # whom to ask, or whose answer is given
    reason: str = ""
    attempt: Attempt | None = None  # whose answer is given

    @property
    def is_end(self) -> bool:
        """Whether the request is finished."""
        return self.action != "ask"


class Rung(NamedTuple):
    """A stage with the threshold that holds now."""

    stage: Stage
    threshold: float | None  # None = every complete answer is given
    is_student: bool = True
    unusable: str = ""  # why its answers may not be given; "" = they may


class Cascade:
    """The decisions on one request after the other; keeps no state between requests."""

    def __init__(self, section: Section, rungs: Sequence[Rung]) -> None:
        """`rungs`: the stages in order; see `rungs_of`."""
        self.section, self.rungs = section, list(rungs)

    def next(self, attempts: Sequence[Attempt], niche: Verdict | None = None) -> Step:
        """Return what to do after `attempts`, the stages asked so far, in order; `niche`: what the niche check said."""
        outside = "" if niche is None or niche.inside else f"outside the niche: {niche.reason}"
        if outside and self.section.niche.outside == "abstain":
            return Step("abstain", reason=outside)
        done = {attempt.stage: attempt for attempt in attempts}
        told = [outside] if outside else []
        has_failed = False
        for rung in self.rungs:
            name = rung.stage.to
            if outside and rung.is_student and name != PERSON:
                continue
            if rung.unusable:
                told.append(f"{name}: {rung.unusable}")
                continue
            if name == PERSON:
                return Step("queue", PERSON, "; ".join(told))
            attempt = done.get(name)
            if attempt is None:
                return Step("ask", name, "; ".join(told))
            if attempt.failed:
                has_failed = True
                told.append(f"{name} failed: {attempt.why}")
            elif is_sure(attempt, rung.threshold):
                return Step("answer", name, "; ".join(told), attempt)
            else:
                told.append(f"{name} was unsure: {_confidence(attempt)}, {rung.threshold:.3f} is needed")
        reason = "; ".join(told) or "no stage may answer"
        return Step("error" if has_failed or self.section.unsure == "error" else "abstain", reason=reason)


def is_sure(attempt: Attempt, threshold: float | None) -> bool:
    """Return whether the confidence reaches the threshold; an answer without a confidence reaches none."""
    return threshold is None or (attempt.confidence is not None and attempt.confidence >= threshold)


def rungs_of(
    stages: Sequence[Stage], certified: Mapping[str, float | None], expired: Mapping[str, str], students: Sequence[str]
) -> list[Rung]:
    """Return the stages with their thresholds.

    `certified`: stage -> certified threshold; `expired`: stage -> why its certificate does not hold, such as
    `Certificate.expired` returns it ("" = it holds); `students`: names of the stages that are students. The contract's own
    threshold of a stage needs no certificate. Every stage but the last needs one of both; the last answers whatever it is asked.
    """
    rungs = []
    for number, stage in enumerate(stages):
        threshold, unusable = stage.threshold, ""
        if threshold is None and number < len(stages) - 1 and stage.to != PERSON:
            threshold = certified.get(stage.to)
            unusable = expired.get(stage.to, "") or ("" if threshold is not None else "no threshold was certified")
        rungs.append(Rung(stage, threshold, stage.to in students, unusable))
    return rungs


def _confidence(attempt: Attempt) -> str:
    return "no confidence" if attempt.confidence is None else f"confidence {attempt.confidence:.3f}"
