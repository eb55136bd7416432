"""`rayleigh withdraw`: rows that may not be used any more; which releases and runs hold them, and how to go on without them."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from engine.contract.prompts import Withdrawn
from engine.errors import InputError, RayleighError
from engine.records.release import HeldBy, RunHolds, RunUnknown, Withdrawal
from engine.release import learnt
from engine.release.registry import RELEASE, Registry
from engine.release.withdrawals import FOLDER, Withdrawals
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import iterate
from jobs import places
from jobs.view.found import runs_below


def withdraw(
    registry: str, given: dict[str, str | None], *, why: str, runs: str | None = None, dry_run: bool = False
) -> Withdrawal:
    """Record that the rows that `given` names (prompt, source or licence) may not be used, and return who holds them.

    `runs` is the folder below which run folders are looked through, at any depth; by default that of the registry.

    Raises:
        InputError: none or several of prompt, source and licence are given, or no reason, or there is no registry.
        StorageError: the registry cannot be read or written.
    """
    try:
        order = Withdrawn.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError:
        found = " and ".join(f"--{name}" for name, value in given.items() if value is not None) or "none of them"
        raise InputError(f"rayleigh withdraw: found {found}, expected exactly one of --prompt, --source, --licence.") from None
    if not why.strip() and not dry_run:
        raise InputError("rayleigh withdraw: found no reason, expected --why TEXT: it is kept with the withdrawal.")
    folder = places.run_folder(registry)
    parent = places.run_folder(runs) if runs else Folder(folder.url.rpartition("/")[0])
    if not folder.exists() and not parent.exists():
        raise InputError(f"{folder}: there is no registry. Name the folder that `rayleigh promote --registry` wrote.")
    event = None if dry_run else Withdrawals(folder).add(order, why)
    [(field, value)] = [(name, text) for name, text in order if text is not None]
    found = list(_runs(parent, order))
    return Withdrawal(
        event=event,
        releases=tuple(releases(folder, order)),
        runs=tuple(each for each in found if isinstance(each, RunHolds)),
        unknown=tuple(each for each in found if isinstance(each, RunUnknown)),
        setting=f"{{{field}: {value}}}",
    )


def as_text(result: Withdrawal) -> str:
    """Return the result for a person."""
    head = f"withdrawn {result.event.field} {result.event.value}" if result.event else f"would be withdrawn: {result.setting}"
    lines = [head]
    for each in result.releases:
        rows = "unknown, made by an earlier version" if each.rows is None else f"{each.rows} prompts"
        note = ", the champion" if each.champion else ""
        lines.append(f"release  {each.contract}: {each.student} {each.fingerprint[:12]}{note}: {rows}")
    for run in result.runs:
        held = f"{run.prompts} prompts, {run.candidates} answers, {run.examples} examples"
        lines.append(f"run      {run.run}: {held}, and its ledger the answers")
    lines += [f"unknown  {run.run}: {run.why}" for run in result.unknown]
    if not result.releases and not result.runs and not result.unknown:
        lines.append("No release and no run holds such rows.")
    else:
        lines.append(
            f"next     prompts.withdrawn: [{result.setting}] in the contract, and a new run folder; its ledger may be shared"
        )
    return "\n".join(lines)


def releases(registry: Folder, order: Withdrawn) -> Iterator[HeldBy]:
    """Yield the releases that hold rows of `order`, or of which that is not known."""
    names = {name.split("/")[0] for name in registry.files() if name.count("/") >= 2 and not name.startswith(f"{FOLDER}/")}
    for contract in sorted(names):
        shelf = Registry(registry, contract)
        champion = shelf.champion
        students = {event.fingerprint: event.student for event in shelf.history()}
        for name in sorted(name for name in shelf.folder.files() if name.endswith(f"/{RELEASE}") and ".part/" not in name):
            fingerprint = name.split("/")[1]
            rows = learnt.held(shelf.folder / f"releases/{fingerprint}", order)
            if rows != 0:
                is_champion = champion is not None and champion.fingerprint == fingerprint
                student = students.get(fingerprint, "?")
                yield HeldBy(contract=contract, student=student, fingerprint=fingerprint, rows=rows, champion=is_champion)


def _runs(parent: Folder, order: Withdrawn) -> Iterator[RunHolds | RunUnknown]:
    """Yield the run folders below `parent` that hold rows of `order`, or of which that cannot be told."""
    for found in runs_below(parent):
        try:
            held = _held(Folder(found.folder), order)
        except RayleighError as error:  # damaged, or of another version
            yield RunUnknown(run=found.folder, why=str(error))
            continue
        if held:
            yield held


def _held(run: Folder, order: Withdrawn) -> RunHolds | None:
    """Return what a run folder holds of `order`; None: nothing.

    Raises:
        RayleighError: it cannot be read.
    """
    prompts, candidates, dataset = (load_artifact(run / job) for job in ("prompts", "candidates", "dataset"))
    if prompts is None:
        return None
    ids = pa.concat_arrays([_matching(prompts, table, order) for table in ("prompts", "holdout")]).unique()
    if not len(ids):
        return None
    counts = [_count(artifact, table, ids) for artifact, table in ((candidates, "candidates"), (dataset, "examples"))]
    return RunHolds(run=run.url, prompts=len(ids), candidates=counts[0], examples=counts[1])


def _matching(prompts: Artifact, table: str, order: Withdrawn) -> pa.Array:
    [(column, value)] = [(name, text) for name, text in order if text is not None]
    name = "prompt_id" if column == "prompt" else column
    pieces = _pieces(prompts, table, list(dict.fromkeys(["prompt_id", name])))
    found = [piece.filter(pc.equal(piece[name], value))["prompt_id"].combine_chunks() for piece in pieces]
    return pa.concat_arrays([pa.array([], pa.string()), *(ids.cast(pa.string()) for ids in found)])


def _count(artifact: Artifact | None, table: str, ids: pa.Array) -> int:
    if artifact is None:
        return 0
    return sum(pc.sum(pc.is_in(piece["prompt_id"], ids)).as_py() or 0 for piece in _pieces(artifact, table, ["prompt_id"]))


def _pieces(artifact: Artifact, table: str, columns: list[str]) -> Iterator[pa.Table]:
    if table in artifact.record.tables:
        yield from iterate(artifact.folder / table, artifact.table(table), columns)
