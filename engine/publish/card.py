"""The card of a dataset (Gebru et al., "Datasheets for Datasets", CACM 64, 2021) as `huggingface_hub` and `datasets` read it.

The YAML header holds what a hub indexes and where the splits are; the body says what the data is for, where it comes from, and what
is known to be wrong with it.
"""

from collections.abc import Mapping, Sequence

from huggingface_hub import DatasetCard, DatasetCardData

from engine.contract.contract import Contract
from engine.records.publish import DataExport
from engine.records.release import LineageEntry

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
HUB_LICENCES = frozenset(
    "apache-2.0 mit cc0-1.0 cc-by-4.0 cc-by-3.0 cc-by-2.0 cc-by-sa-4.0 cc-by-sa-3.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 "
    "bsd-2-clause bsd-3-clause gpl-2.0 gpl-3.0 lgpl-3.0 mpl-2.0 odc-by odbl pddl unlicense".split()
)
"""Licences that a hub knows, of those that data has; any other is `other`, with its name."""


def card(contract: Contract, export: DataExport, lineage: Mapping[str, LineageEntry], configs: Mapping[str, Sequence[str]]) -> str:
    """Return the card in Markdown with a YAML header. `configs`: table -> its splits, in `data/<table>/<split>.parquet`."""
    header = _header(contract, export, configs).to_yaml()
    sections = [
        f"# {contract.name}",
        contract.specialist.goal,
        _use(contract),
        _rows(export, configs),
        _sources(export),
        _making(contract, export),
        _limits(contract, export),
        _lineage(lineage),
    ]
    return str(DatasetCard(f"---\n{header}\n---\n\n" + "\n\n".join(sections) + "\n", ignore_metadata_errors=True))


def _header(contract: Contract, export: DataExport, configs: Mapping[str, Sequence[str]]) -> DatasetCardData:
    known = [name.lower() for name in export.by_licence if name.lower() in HUB_LICENCES]
    others = [name for name in export.by_licence if name.lower() not in HUB_LICENCES]
    total = sum(export.rows.values())
    return DatasetCardData(
        pretty_name=contract.name,
        language=list(contract.specialist.niche.languages),
        license=["other"] if others else known,
        license_name=", ".join(sorted(export.by_licence)) if others else None,
        size_categories=[next((name for limit, name in SIZES if total < limit), "n>10M")],
        task_categories=["text-generation"],
        tags=["distillation", "synthetic", "rayleigh"],
        configs=[
            {
                "config_name": table,
                "default": index == 0,
                "data_files": [{"split": split, "path": f"data/{table}/{split}.parquet"} for split in splits],
            }
            for index, (table, splits) in enumerate(configs.items())
        ],
    )


def _use(contract: Contract) -> str:
    niche = contract.specialist.niche
    units = "\n".join(f"- `{unit.name}` ({unit.kind}): {unit.instruction}" for unit in contract.specialist.task_units)
    non_goals = "\n".join(f"- {goal}" for goal in contract.specialist.non_goals) or "- none named"
    return (
        f"## Intended use\n\nTo train a small model for this task. Languages: {', '.join(niche.languages)}. Data class of the "
        f"requests: {niche.data_class}.\n\n{units}\n\nNot for:\n\n{non_goals}"
    )


def _rows(export: DataExport, configs: Mapping[str, Sequence[str]]) -> str:
    lines = "\n".join(f"| {split} | {count} |" for split, count in export.rows.items())
    filters = [f"where `{export.where}`"] if export.where else []
    filters += [f"licences {', '.join(export.licences)}"] if export.licences else []
    left = ", ".join(f"{count} by {why}" for why, count in export.left_out.items() if count)
    chosen = f"\n\nChosen: {'; '.join(filters)}." if filters else ""
    return (
        f"## Rows\n\n| split | rows |\n|---|---|\n{lines}\n\nTables: {', '.join(configs)}.{chosen}"
        f" Of {export.rows_in} rows, {left or 'none'} did not leave.\n\n"
        "`messages` is the input of the student, `target` its output; `licence`, `source` and `line` say where the prompt of a row "
        "comes from, `teacher` who answered, `confidence` how probably the answer is right (null: not judged)."
    )


def _sources(export: DataExport) -> str:
    licences = "\n".join(f"| {_cell(name)} | {count} |" for name, count in export.by_licence.items())
    sources = "\n".join(f"| {_cell(name)} | {count} |" for name, count in export.by_source.items())
    return (
        f"## Sources and licences\n\n| licence | rows |\n|---|---|\n{licences}\n\n| source | rows |\n|---|---|\n{sources}"
        "\n\nThe licence is that of the prompts. The answers are of the models below: their terms apply, too."
    )


def _making(contract: Contract, export: DataExport) -> str:
    teachers = "; ".join(f"{teacher.name} (`{teacher.model.path}`)" for teacher in contract.teachers.models)
    replaced = ", ".join(f"{kind} in {count} rows" for kind, count in export.redacted.items() if count) or "none was left"
    found = ", ".join(f"{kind} in {count} rows" for kind, count in export.suspected.items() if count) or "nothing"
    kinds = ", ".join(contract.prompts.redact) or "none"
    return (
        f"## How it was made\n\nBy `rayleigh`, from prompts that teachers answered, by checks, deduplication and selection as the "
        f"contract says. Teachers: {teachers}.\n\nPersonal data: the contract replaces {kinds} before a model reads it. When "
        f"these rows left, they were looked through once more: replaced were {replaced}; of other kinds, {found} was found. A "
        "recognizer misses some."
    )


def _limits(contract: Contract, export: DataExport) -> str:
    lines = [
        "- The targets are answers of models, accepted by checks and judges; some are wrong.",
        "- The rows are a selection for one student, no sample of the requests.",
        f"- The holdout (references by {contract.prompts.holdout.labels}) is not part of it, and near copies of it were removed.",
        *(["- Rows were left out when they left the run: see Rows."] if any(export.left_out.values()) else []),
    ]
    return "\n".join(["## Limits\n", *lines])


def _lineage(lineage: Mapping[str, LineageEntry]) -> str:
    lines = "\n".join(f"| {name} | `{entry.fingerprint}` | {entry.commit or ''} |" for name, entry in lineage.items())
    head = "| artifact | fingerprint | commit |\n|---|---|---|"
    return f"## Lineage\n\n{head}\n{lines}\n\nInputs, versions and row counts: `lineage.json`; what left: `export.json`."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
