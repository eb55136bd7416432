"""The contract of a later round, from the contract that the command was given and what was chosen for the round.

What a later round does not change: the task, the holdout, teachers, judges, curation, students and how all are measured.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import ValidationError

from engine.contract.contract import Contract
from engine.contract.gate import Gate
from engine.contract.init import ChampionRelease, Init
from engine.contract.prompts import Source
from engine.contract.students import Student
from engine.contract.synthesize import Synthesis
from engine.errors import ContractError
from engine.rounds.quotas import Offer
from engine.rows import content_id

APART = ("iterate", "serving")
"""Sections that may change between two calls: no job depends on them."""


class Chosen(NamedTuple):
    """What a later round is made of."""

    number: int
    earlier: str
    """Run folder of the round before."""
    offers: Sequence[Offer] = ()
    """Unused rows of the sources."""
    traffic: Sequence[Source] = ()
    """Files of requests."""
    synthesize: tuple[Synthesis, ...] = ()
    champion: tuple[str, str] | None = None
    """Name and fingerprint of the released student that is gone on from."""


def identity(contract: Contract) -> str:
    """Return a hash of what must stay the same over all rounds."""
    return content_id(json.dumps(contract.model_dump(mode="json", exclude=set(APART)), sort_keys=True))


def descend(base: Contract, chosen: Chosen) -> Contract:
    """Return the contract of round `chosen.number`.

    Raises:
        ContractError: a rule between sections refuses the new prompts.
    """
    prompts = base.prompts.model_copy(
        update={
            "sources": (*_sources(base.prompts.sources, chosen.offers), *chosen.traffic),
            "earlier": (chosen.earlier,),
            "synthesize": chosen.synthesize,
        }
    )
    changed = base.model_copy(
        update={
            "prompts": prompts,
            "students": tuple(_student(each, chosen.champion) for each in base.students),
            "gate": gate(base, chosen.number),
        }
    )
    try:
        return Contract.model_validate(changed.model_dump(mode="json"))
    except ValidationError as error:
        why = "; ".join(problem["msg"] for problem in error.errors())
        raise ContractError(
            f"round {chosen.number}: the contract refuses its new prompts: {why}. Turn off what the contract does not allow: "
            "iterate.counter_examples, prompts.synthesize, or --from-traffic."
        ) from None


def gate(base: Contract, number: int) -> Gate:
    """Return the gate of round `number`.

    A later student must not be below the champion by more than `evaluation.worth`, unless the contract says otherwise. Each round
    looks at the same holdout again, so the level of round k is divided by 2 ** k: over all rounds after the first together, a
    student that does not meet the gate passes with probability `gate.level` at most (alpha spending by a geometric series).
    """
    section = base.gate
    update: dict[str, object] = {} if section.champion is not None else {"champion": base.evaluation.worth}
    if section.by == "prove":
        update["level"] = section.level / 2**number
    return section.model_copy(update=update)


def begins(base: Contract, champion: tuple[str, str] | None) -> tuple[str, str] | None:
    """Return the student that goes on from the champion, with the release's fingerprint; None: all begin as in the first round.

    `champion` is the champion's name and fingerprint. An export is no model to train.
    """
    if base.iterate.begin != "champion" or champion is None:
        return None
    return champion if champion[0] in [student.name for student in base.students] else None


def _sources(sources: Sequence[Source], offers: Sequence[Offer]) -> list[Source]:
    """Return the sources with the lines of `offers` alone."""
    result = []
    for number, source in enumerate(sources):
        lines: dict[str, list[int]] = {}
        for offer in offers:
            if offer.source == number:
                lines.setdefault(offer.file, []).append(offer.line)
        chosen = {file: tuple(sorted(found)) for file, found in sorted(lines.items())}
        result.append(source.model_copy(update={"take": None, "lines": chosen}))
    return result


def _student(student: Student, champion: tuple[str, str] | None) -> Student:
    if champion is None or student.name != champion[0]:
        return student
    init = Init(champion=ChampionRelease(version=champion[1][:32]), adapter=student.init.adapter)
    return student.model_copy(update={"init": init})
