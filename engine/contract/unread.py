"""Settings of a contract that nothing would read: whoever wrote them expects what does not happen.

They are refused in a new contract only. A run that was begun with them has the same artifacts without them, and goes on.
"""

from collections.abc import Iterator

from engine.contract.consumers import consumers
from engine.contract.contract import Contract
from engine.contract.gate import Gate
from engine.contract.judges import Accept


def unread(contract: Contract) -> Iterator[str]:
    """Yield each setting of `contract` that is not read, why, and what to do."""
    if contract.teachers.mode == "direct":
        yield from _direct(contract)
    asked = [consumer for consumer in consumers(contract) if consumer.cap == "judge_tokens"]
    if contract.budget.judge_tokens is not None and not asked:
        yield "budget.judge_tokens: no model is asked as a judge, so nothing counts against it; take it out."
    if not contract.curation.pick.pools:
        yield "curation.pick.pools: found none, so no answer could become an example; name some, such as [train]."
    decontaminate = contract.curation.decontaminate
    if not decontaminate.fields and not decontaminate.similarity:
        why = "found none, so nothing is compared with the holdout"
        yield f"curation.decontaminate.fields: {why}; name some of prompt, answer, rationale."
    if contract.gate.slices and not contract.evaluation.slices:
        yield "gate.slices: evaluation.slices is empty, so there is no slice to test; name some there, or take it out."
    if contract.gate.by == "point" and contract.gate.students != Gate.model_fields["students"].get_default():
        yield "gate.students: found by: point, which tests nothing, so no level is shared; use prove, or take it out."
    yield from _endpoints(contract)


def _direct(contract: Contract) -> Iterator[str]:
    """Yield what only a judge would use: in mode direct none is asked, and no answer has a confidence."""
    judges = contract.judges
    why, advice = "in teachers.mode direct the checks alone decide", "use mode judged, or take it out."
    given = {"rubrics": judges.rubrics, "calibrate": judges.calibrate, "pools.confidence_tiers": judges.pools.confidence_tiers}
    yield from (f"judges.{key}: {why}; {advice}" for key, value in given.items() if value)
    if judges.accept.confidence != Accept().confidence:
        yield f"judges.accept.confidence: {why}, and no answer has a confidence; {advice}"
    for at, rule in enumerate(judges.pools.rules):
        for key in ("confidence", "rubric_spread"):
            if getattr(rule.when, key) is not None:
                yield f"judges.pools.rules.{at}.when.{key}: {why}, so the rule never holds; {advice}"


def _endpoints(contract: Contract) -> Iterator[str]:
    for consumer in consumers(contract):
        if consumer.model.type == "endpoint":
            both = sorted({*(consumer.model.omit or ())} & {*(consumer.model.rename or {})})
            if both:
                names = ", ".join(both)
                yield f"{consumer.path}: omit and rename both name {names}, and what is omitted is not sent; take it out of one."
