"""`rayleigh export`: training data of a run in the form of another program. (`make exports` and `exports` of a contract are about
students in other formats.)

Whatever leaves is chosen by `--where` and `--licence`, goes without withdrawn rows, and is looked through for personal data once
more. A folder appears under its name when it is whole; nothing is sent anywhere without `--push`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from engine.contract.contract import Contract
from engine.contract.prompts import Entity
from engine.errors import InputError
from engine.publish import card, croissant, guide
from engine.publish.formats import FORMATS as FORMAT_TABLES
from engine.publish.forms import dataset_info
from engine.publish.personal import EVERY, Checked, checked
from engine.records.publish import DataExport
from engine.records.release import LineageEntry
from engine.rows import Row
from engine.storage.folder import Folder
from jobs import places, workspace
from jobs.commands import export_files as files
from jobs.commands.export_arrays import Arrays
from jobs.commands.export_folder import final_folder, push, whole_folder
from jobs.commands.export_tables import Delta, Iceberg, Lance
from jobs.commands.sql import Views
from jobs.commands.sql_docs import column_docs

FORMATS: Mapping[str, type[files.Sink]] = {
    "hf": files.Parquet, "croissant": files.Flat, "csv": files.Csv, "messages": files.Messages, "sharegpt": files.Sharegpt,
    "alpaca": files.Alpaca, "preferences": files.Preferences, "delta": Delta, "iceberg": Iceberg, "lance": Lance, "arrays": Arrays,
}  # fmt: skip
"""Format -> its files."""
BOTH = ("hf", "delta", "iceberg", "lance")
"""Formats that hold the pairs of preferences, too, where the run has some."""
MANIFEST, LINEAGE, README = "export.json", "lineage.json", "README.md"
ABOUT = "p.licence, p.source, p.line, p.language, p.parent_id"
BASE = {
    "examples": f"select e.*, {ABOUT}, c.teacher, c.confidence from examples e left join prompts p using (prompt_id) left join "
    "(select answer_id, any_value(teacher) as teacher, any_value(confidence) as confidence from candidates group by 1) c "
    "on c.answer_id = split_part(e.example_id, '-', 1)",
    "preferences": f"select e.*, {ABOUT} from preferences e left join prompts p using (prompt_id)",
}
"""Table -> its rows with what is known of their prompts; the columns that `--where` may name."""
ORDER = {"examples": "example_id", "preferences": "pair_id"}
WITHDRAWN = """
    with recursive gone(prompt_id) as (
        select prompt_id from prompts where prompt_id in (select value from withdrawals where field = 'prompt')
            or source in (select value from withdrawals where field = 'source')
            or licence in (select value from withdrawals where field = 'licence')
        union select p.prompt_id from prompts p join gone g on p.parent_id = g.prompt_id
    ) select prompt_id from gone
"""
"""Prompts that were withdrawn, and those that were synthesized from them."""


@dataclass(frozen=True)
class Order:
    """What is to leave."""

    format: str
    where: str | None = None
    licences: tuple[str, ...] = ()
    redact: tuple[str, ...] = ()
    """Kinds of personal data to replace beside those of the contract."""
    registry: str | None = None
    push: str | None = None
    """Repository on the hub, OWNER/NAME."""


@dataclass
class Tally:
    """What became of the rows."""

    rows_in: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    by_licence: Counter[str] = field(default_factory=Counter)
    by_source: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    suspected: Counter[str] = field(default_factory=Counter)

    def leave_out(self, why: str) -> None:
        """Count a row that does not leave."""
        self.rows_in += 1
        self.left_out[why] += 1

    def take(self, found: Checked) -> None:
        """Count a row that leaves."""
        self.rows_in += 1
        self.rows[found.row["split"]] += 1
        self.by_licence[found.row["licence"] or "unknown"] += 1
        self.by_source[found.row["source"] or "unknown"] += 1
        self.redacted.update(found.replaced)
        self.suspected.update(found.suspected)


def export(run: str, out: str, order: Order) -> DataExport:
    """Write the rows of `run` that may leave into the new or empty folder `out`, and return what left.

    Raises:
        InputError: the format, a licence or a kind of personal data is unknown, its package is not installed, the condition is not
            one, `out` is not empty, or no row is left.
        MissingArtifact: the run has no dataset yet.
        StorageError: `out` cannot be written, or the hub refuses.
    """
    contract = workspace.reopen(run).contract
    kinds = _kinds(order, contract)
    views = Views(run, registry=order.registry)
    dataset = workspace.finished(places.run_folder(run), "dataset")
    tables = ["preferences"] if order.format == "preferences" else ["examples"]
    tables += ["preferences"] if order.format in BOTH and "preferences" in views.names else []
    _verify(views, order, tables)
    final = final_folder(out)
    with whole_folder(final, out) as folder:
        tally, sinks = Tally(), dict[str, files.Sink]()
        for table in tables:
            with FORMATS[order.format](files.Target(folder, final, table, contract.name, views)) as sink:
                for row in _leaving(table, order, tally, sink, kinds):
                    sink.put(row)
            sinks |= {table: sink} if sink.splits else {}
        if not tally.rows:
            raise InputError(f"export: none of {tally.rows_in} rows is left: {_reasons(tally)}. Nothing was written.")
        result = DataExport(
            format=order.format, run=str(places.run_folder(run)), contract=contract.name, dataset=dataset.fingerprint,
            created=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", where=order.where, licences=order.licences, rows_in=tally.rows_in,
            rows=_sorted(tally.rows), left_out=_sorted(tally.left_out), by_licence=_sorted(tally.by_licence),
            by_source=_sorted(tally.by_source), redacted=_sorted(tally.redacted), suspected=_sorted(tally.suspected), files=(),
        )  # fmt: skip
        _describe(folder, contract, result, sinks)
        written = Folder(str(folder))
        result = result.model_copy(update={"files": tuple(written.measure(name) for name in written.files())})
        (folder / MANIFEST).write_text(result.model_dump_json(indent=1), encoding="utf-8")
    if order.push:
        result = result.model_copy(update={"pushed": push(final, order.push)})
    return result


def _kinds(order: Order, contract: Contract) -> tuple[Entity, ...]:
    """Return the kinds of personal data that are replaced: those of the contract, and those of the order."""
    if order.format not in FORMATS:
        raise InputError(f"export: found the format {order.format!r}, expected one of {', '.join(FORMATS)}.")
    if order.push and order.format != "hf":
        raise InputError(f"--push {order.push}: found the format {order.format}, expected hf: a hub reads that folder.")
    if unknown := [kind for kind in order.redact if kind not in EVERY]:
        raise InputError(f"--redact {unknown[0]}: expected one of {', '.join(EVERY)}.")
    return tuple(kind for kind in EVERY if kind in (*contract.prompts.redact, *order.redact))


def _verify(views: Views, order: Order, tables: Sequence[str]) -> None:
    """Raise InputError if a table is not there, no prompt has a licence of the order, or the condition cannot be asked."""
    for table in tables:
        if table not in views.names:
            raise InputError(f"export {order.format}: {views.run} has no table {table}. For pairs, set curation.preferences.")
        views.query(f"select * from ({BASE[table]}) where ({order.where or 'true'}\n) limit 0")
    known = sorted(row["licence"] for row in views.rows("select distinct licence from prompts where licence is not null"))
    if unknown := sorted(set(order.licences) - set(known)):
        raise InputError(f"--licence {unknown[0]}: no prompt has it. The licences of {views.run} are: {', '.join(known)}.")


def _leaving(table: str, order: Order, tally: Tally, sink: files.Sink, kinds: tuple[Entity, ...]) -> Iterator[Row]:
    """Yield the rows of `table` that leave, without personal data of `kinds`, in the order of their ids; count all."""
    licences = "true" if not order.licences else "coalesce(list_contains(?, licence), false)"
    query = (
        f"select *, case when not coalesce(({order.where or 'true'}\n), false) then 'where' "
        f"when prompt_id in ({WITHDRAWN}) then 'withdrawn' when not {licences} then 'licence' else '' end as left_out "
        f"from ({BASE[table]})"
    )
    ordered = f"{sink.source(query)} order by {ORDER[table]}"
    for batch in sink.target.views.query(ordered, [list(order.licences)] if order.licences else []):
        for row in batch.to_pylist():
            if why := row.pop("left_out"):
                tally.leave_out(why)
                continue
            found = checked(row, kinds)
            if found.replaced and not sink.replaces:
                tally.leave_out("personal")
                continue
            if (formed := sink.form(found.row)) is None:
                tally.leave_out("form")
                continue
            tally.take(found)
            yield {"split": row["split"], "row": formed}


def _describe(folder: Path, contract: Contract, result: DataExport, sinks: Mapping[str, files.Sink]) -> None:
    """Write the files beside the data that the format wants."""
    splits = {table: sink.splits for table, sink in sinks.items()}
    first = next(iter(sinks.values()))
    if result.format == "hf":
        lineage = _lineage(first.target.views)
        text = json.dumps({name: entry.model_dump(mode="json") for name, entry in lineage.items()}, indent=1)
        (folder / LINEAGE).write_text(text, encoding="utf-8")
        (folder / README).write_text(card.card(contract, result, lineage, splits), encoding="utf-8")
    elif result.format == "croissant":
        names = [f"data/{split}.parquet" for split in splits["examples"]]
        measured = [Folder(str(folder)).measure(name) for name in names]
        docs = {**column_docs("candidates"), **column_docs("examples")}
        described = croissant.croissant(contract, result, measured, first.schema, docs)
        (folder / "croissant.json").write_text(json.dumps(described, indent=1, ensure_ascii=False), encoding="utf-8")
    elif result.format in FORMAT_TABLES:
        (folder / README).write_text(guide.of_tables(result, str(first.target.final), splits), encoding="utf-8")
    elif isinstance(first, Arrays):
        text = guide.of_arrays(result, str(first.target.final), first.files, first.held)
        (folder / README).write_text(text, encoding="utf-8")
    elif info := dataset_info(result.format, contract.name, [f"{split}.jsonl" for of in splits.values() for split in of]):
        (folder / "dataset_info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")


def _lineage(views: Views) -> dict[str, LineageEntry]:
    return {
        job: LineageEntry(
            folder=artifact.folder.url, fingerprint=artifact.fingerprint, inputs=artifact.record.inputs,
            row_counts=artifact.record.row_counts, packages=artifact.record.packages, commit=artifact.record.commit,
        )
        for job, artifact in views.artifacts.items()
        if job in ("prompts", "candidates", "dataset")
    }  # fmt: skip


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _reasons(tally: Tally) -> str:
    return ", ".join(f"{count} by {why}" for why, count in sorted(tally.left_out.items())) or "the table is empty"


def as_text(result: DataExport, out: str) -> str:
    """Return what left and what did not."""
    lines = [f"{sum(result.rows.values())} rows of {result.run} in {out}: " + _counts(result.rows)]
    lines += [f"left out   {_counts(result.left_out)}"] if result.left_out else []
    lines.append(f"licences   {_counts(result.by_licence)}")
    lines += [f"redacted   {_counts(result.redacted)}"] if result.redacted else []
    if result.suspected:
        lines.append(f"WARNING: personal data may be left: {_counts(result.suspected)}. --redact KIND replaces it.")
    lines += [f"pushed     {result.pushed}"] if result.pushed else []
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
