"""Expected tokens of every consumer of a paid model, for `rayleigh plan`: measured, extrapolated, or null with the reason."""

from typing import Any

from engine.contract import Contract
from engine.contract.consumers import Consumer, consumers
from engine.records.base import Record
from jobs.commands.estimate import Estimate, Extrapolation, exactly

IN_PROPORTION = "the pilot's, in proportion to prompts"


class SynthesisTokens(Record):
    """Tokens of written prompts."""

    tokens_in: int = 0
    tokens_out: int = 0


class WrittenPrompts(Record):
    """The part of the metrics of the job `prompts` that a plan reads."""

    synthesis: SynthesisTokens | None = None


def consumer_tokens(contract: Contract, pilot: Extrapolation, *, synthesis: int | None) -> list[dict[str, Any]]:
    """Return kind, name, job, cap, tokens and basis of each consumer; `synthesis` are the tokens of all written prompts."""
    entries = []
    for one in {consumer.payee: consumer for consumer in consumers(contract)}.values():
        tokens, basis = _tokens(contract, one, pilot, synthesis)
        entries.append({"kind": one.kind, "name": one.payee, "job": one.job, "cap": one.cap, "tokens": tokens, "basis": basis})
    return entries


def _tokens(contract: Contract, one: Consumer, pilot: Extrapolation, synthesis: int | None) -> tuple[Estimate, str]:
    if one.kind == "synthesis":
        return exactly(synthesis), "measured: the prompts are written"
    if one.kind == "teacher":
        tokens = pilot.tokens_of(one.payee)
        return tokens, IN_PROPORTION if tokens else "not measured: none of the drawn prompts was answered by it"
    if one.kind == "repair":
        prompts = round(pilot.pilot.stands_for * (1 - float(pilot.pilot.sums["learnable"].mean())))
        return None, f"not measured: at most one reply for each prompt without an accepted answer, about {prompts} of them"
    paid = pilot.pilot.judge_tokens.get(one.payee, 0)
    if not paid:
        return None, "not measured: the pilot paid for nothing, as the ledger held it or no answer was worth a question"
    if one.kind == "judge" and contract.judges.calibrate:
        basis = "at most: the pilot's, in proportion to prompts; those of labelled items, which are paid once, are among them"
        return exactly(paid * pilot.pilot.times), basis
    return exactly(paid * pilot.pilot.times), IN_PROPORTION
