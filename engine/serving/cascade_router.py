"""The router of a certified student: answer from the certified confidence on, else hand on or abstain."""

from typing import NamedTuple

from engine.contract.serving import Cascade as Section
from engine.contract.serving import NicheCheck, Stage
from engine.records.certificate import Certificate
from engine.serving.cascade import Attempt, Cascade, Rung, Step
from engine.serving.niche import Verdict
from engine.serving.router import Answer, Asked, Decision

NO_ATTEMPT: tuple[Attempt, ...] = ()


class CascadeRouter(NamedTuple):
    """Makes the decisions of `engine.serving.cascade` for one student and at most one fallback.

    The student answers a request only with a complete answer whose confidence reaches the certified threshold. Without a threshold
    it is not asked at all.
    """

    cascade: Cascade

    def screen(self, asked: Asked) -> Decision | None:
        """Return what becomes of a request if the student may not answer; None if it is asked."""
        step = self.cascade.next(NO_ATTEMPT, Verdict(not asked.outside, asked.outside))
        return None if self._asks_student(step) else _decision(step)

    def decide(self, asked: Asked, answer: Answer) -> Decision:
        """Return what becomes of a request that the student has answered."""
        student = self.cascade.rungs[0].stage.to
        attempt = Attempt(student, answer.text, answer.confidence, answer.finish_reason, answer.error)
        return _decision(self.cascade.next((attempt,)))

    def _asks_student(self, step: Step) -> bool:
        return step.action == "ask" and step.stage == self.cascade.rungs[0].stage.to


def router_of(certificate: Certificate, fallback: str | None, niche: NicheCheck = NicheCheck()) -> CascadeRouter:  # noqa: B008
    """Return the router of the certified student; `fallback` names who is asked below the threshold, None = nobody.

    The certificate holds for what is served: `Certificate.of_another` was asked. `niche` says what becomes of requests outside.
    """
    student = Stage(to=certificate.model)
    unusable = "" if certificate.threshold is not None else f"no threshold was certified: {certificate.reason}"
    rungs = [Rung(student, certificate.threshold, unusable=unusable)]
    rungs += [Rung(Stage(to=fallback), None, is_student=False)] if fallback else []
    return CascadeRouter(Cascade(Section(stages=tuple(rung.stage for rung in rungs), niche=niche), rungs))


def _decision(step: Step) -> Decision:
    """Return a step as a decision. That a student's answer was cut and nobody else is asked is an abstention, too."""
    if step.action == "answer":
        return Decision("answer")
    if step.action == "ask":
        return Decision("hand_on", step.stage, step.reason)
    return Decision("abstain", reason=step.reason)
