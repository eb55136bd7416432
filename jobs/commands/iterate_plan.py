"""Plans a later round of `rayleigh iterate`: where the round before is weak, which prompts are added there, and the contract."""

from typing import NamedTuple

from engine.contract.contract import Contract
from engine.contract.prompts import Source
from engine.records.rounds import RoundPlan
from engine.release.registry import Registry, default_registry
from engine.rounds import descend, writing
from engine.rounds.descend import Chosen
from engine.rounds.quotas import fill
from engine.rounds.slices import layers_of, weak_slices, with_quotas
from engine.storage.folder import Folder
from jobs import workspace
from jobs.commands.iterate_offers import Known, Requests, drawn, known, requests, written_sources
from jobs.commands.iterate_shown import compared
from jobs.workspace import Workspace


class Planned(NamedTuple):
    """A plan, and the contract that follows from it."""

    plan: RoundPlan
    contract: Contract


def plan(work: Workspace, before: Folder, folder: Folder, *, traffic: str | None, number: int) -> Planned | None:
    """Return the plan of round `number`, whose run folder is `folder`; None if there is no prompt to add.

    `work` has the contract that the command was given. Texts of requests are written into `folder`.

    Raises:
        InputError: a source cannot be read, or `traffic` holds no records.
        ContractError: a rule of the contract refuses the new prompts.
    """
    base, shown = work.contract, compared(before, work.contract)
    if shown is None:
        return None
    student, teacher, both = shown
    section, salt = base.iterate, f"round {number}"
    read = known([workspace.finished(each, "prompts") for each in _rounds(before, number)], base)
    asked = _requests(traffic, base, read, salt)
    room = section.prompts - (asked.share.chosen if asked else 0)
    slices = with_quotas(weak_slices(both, section, level=base.evaluation.level), room)
    slices, offers = fill(slices, drawn(base, work.root, read, slices, salt=salt))
    templates = writing.methods(base)
    slices, written, unfilled = writing.shares(slices, [layers_of(part, both) for part in slices], templates, number=number)
    if not offers and not written and not (asked and asked.share.chosen):
        return None
    champion = _champion(before, base)
    made = RoundPlan(
        round=number,
        before=str(before),
        before_fingerprint=workspace.finished(before, "reports").fingerprint,
        student=student.name,
        teacher=teacher,
        slices=tuple(slices),
        traffic=asked.share if asked else None,
        written=tuple(written),
        unfilled=unfilled,
        begins=dict([champion]) if champion else {},
        level=descend.gate(base, number).level if base.gate.by == "prove" else None,
    )
    sources: list[Source] = written_sources(asked.texts, folder, base) if asked else []
    synthesize = writing.ordered(templates, written, number=number)
    chosen = Chosen(number, before.url, offers, sources, synthesize, champion)
    return Planned(made, descend.descend(base, chosen))


def _rounds(before: Folder, number: int) -> list[Folder]:
    """Return the run folders of all rounds so far; `before` is the last of them."""
    root = Folder(before.url.rpartition("/")[0])
    return [root / f"round-{each:03d}" for each in range(number)]


def _requests(traffic: str | None, base: Contract, read: Known, salt: str) -> Requests | None:
    if traffic is None:
        return None
    return requests(traffic, base, read, most=int(base.iterate.prompts * base.iterate.traffic), salt=salt)


def _champion(before: Folder, base: Contract) -> tuple[str, str] | None:
    """Return the student that goes on from the champion, with its release's fingerprint; None: none does."""
    champion = Registry(default_registry(before), base.name).champion
    return descend.begins(base, (champion.student, champion.fingerprint) if champion else None)
