"""Examples in, their token ids out: once for each different tokenizer of the students, streamed in the order of example ids."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from engine.contract.students import Student
from engine.inference.engine import Chat
from engine.inference.turn_end import turn_end
from engine.records.base import Json
from engine.records.tokens import TokenizerSummary, TokensMetrics
from engine.rows import EXAMPLE, TOKENS, Row
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact, RowCounts
from engine.storage.shards import iterate, sorted_rows, write_pieces
from engine.students.data import preflight
from engine.students.data.tokenise import COLUMNS, tokenise
from engine.students.init.tokenizer import build_tokenizer, description, key, reads_pairs
from jobs.steps import initial_source

PAIR_TEXTS = ("prompt", "chosen", "rejected")
COMPARED = 64  # examples whose prompts are tokenised with the saved tokenizer and with that of the source


def tokenizers(context: JobContext) -> Json:
    """Return what identifies the tokenizers of the contract's students."""
    return {
        "tokenizers": sorted({description(student) for student in context.contract.students}),
        **initial_source.releases(context),
    }


def run(context: JobContext) -> RowCounts:
    """Tokenise the examples once for each different tokenizer of the students.

    Raises:
        InputError: a chat template refuses an example.
        ModelError: a student's source holds no tokenizer, or one that cannot be learned with.
    """
    dataset = context.artifact(context.job.needs[0])
    summaries: dict[str, TokenizerSummary] = {}
    by_description: dict[str, list[Student]] = {}
    for student in context.contract.students:
        by_description.setdefault(description(student), []).append(student)
    for made_from, students in by_description.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            source = initial_source.folder(context, students[0])
            original = preflight.load(source)
            stops = preflight.stop_tokens(source, original)
            preflight.check(original, source, stops)
            build_tokenizer(students[0].init, source, texts(dataset, pairs=reads_pairs(students[0])), folder)
            name = key(folder)
            if name not in summaries:
                built = preflight.load(folder)
                preflight.check(built, source, stops)
                if built.get_vocab() == original.get_vocab():
                    preflight.check_same(built, original, first_chats(dataset))
                summaries[name] = _tokenised(context, dataset, folder, name)
        entry = summaries[name]
        update = {
            "made_from": [*entry.made_from, made_from],
            "students": [*entry.students, *(student.name for student in students)],
        }
        summaries[name] = entry.model_copy(update=update)
    context.writer.metrics = TokensMetrics(tokenizers=list(summaries.values()))
    rows = dataset.table("examples").rows
    return RowCounts(rows, {"tokenised": rows})


def texts(dataset: Artifact, *, pairs: bool = False) -> Iterator[str]:
    """Yield every text of the examples, messages and targets, and with `pairs` those of the preference pairs."""
    for row in _rows(dataset, "examples", ["messages", "target"]):
        yield from (turn["content"] for turn in row["messages"])
        yield row["target"]
    for row in _rows(dataset, "preferences", PAIR_TEXTS) if pairs and "preferences" in dataset.record.tables else ():
        yield from (turn["content"] for column in PAIR_TEXTS for turn in row[column])


def _rows(dataset: Artifact, table: str, columns: Sequence[str]) -> Iterator[Row]:
    for rows in iterate(dataset.folder / table, dataset.table(table), columns):
        for batch in rows.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()


def first_chats(dataset: Artifact) -> list[Chat]:
    """Return the messages of the first examples."""
    pieces = iterate(dataset.folder / "examples", dataset.table("examples"), ["messages"])
    return next(pieces, EXAMPLE.empty_table()).slice(0, COMPARED)["messages"].to_pylist()


def _tokenised(context: JobContext, dataset: Artifact, folder: Path, name: str) -> TokenizerSummary:
    """Write the table and the files of the tokenizer in `folder`, whose key is `name`."""
    tokenizer = preflight.load(folder)
    ending = turn_end(tokenizer)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        context.writer.folder.write(f"tokenizer_{name}/{path.relative_to(folder)}", path.read_bytes())
    total = learned = longest = done = 0
    table = f"examples_{name}"

    def pieces() -> Iterator[Any]:
        nonlocal total, learned, longest, done
        for rows in sorted_rows(dataset.folder / "examples", dataset.table("examples"), COLUMNS, by="example_id"):
            piece = tokenise(rows, tokenizer, ending)
            lengths = pc.list_value_length(piece["ids"])
            total += pc.sum(lengths).as_py() or 0
            learned += pc.sum(pc.subtract(lengths, piece["target_start"])).as_py() or 0
            longest = max(longest, pc.max(lengths).as_py() or 0)
            done += piece.num_rows
            context.progress(f"tokens: {done} of {dataset.table('examples').rows} examples")
            yield piece

    context.writer.tables[table] = write_pieces(context.writer.folder / table, pieces(), TOKENS)
    return TokenizerSummary(
        key=name,
        made_from=[],
        students=[],
        words=len(tokenizer),
        turn_end=tokenizer.convert_ids_to_tokens(ending),
        tokens=total,
        target_tokens=learned,
        longest=longest,
    )
