"""The form `arrays` of `rayleigh export`: token ids and log-probabilities, for programs that train without a tokenizer of text."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from engine.capture.schemas import COPY, VOCABULARY
from engine.errors import InputError
from engine.publish import arrays, tables
from engine.records.capture import CaptureMetrics
from engine.records.tokens import TokenizerSummary, TokensMetrics
from engine.rows import Row
from engine.storage.artifact import Artifact
from jobs.commands.export_files import Sink, Target

if TYPE_CHECKING:
    from engine.students.data.aligned import Aligner

LARGEST = 1 << 24
"""Values of a file after which the next one begins: 64 to 128 MB."""
TEXTS = ("messages", "target", "final", "rationale", "limits")
INDEX = pa.schema([field for field in tables.annotated("examples", "description") if field.name not in TEXTS])
"""Columns of the file beside the arrays: all that are no text of the example."""
ANSWER = """
    select answer_id, any_value(answer) as answer, any_value(token_logprobs) as token_logprobs from candidates
    where token_logprobs is not null group by 1
"""
CAPTURED = "select example_id, list(k) as captured from captured k where finish_reason = 'stop' group by 1"


class Arrays(Sink):
    """For each tokenizer `KEY/<split>-NUMBER.safetensors`, ids and origin of its rows in `.parquet`, and `KEY/tokenizer`.

    A row with personal data is left out, as ids cannot be replaced like a text.
    """

    replaces = False

    def __init__(self, target: Target) -> None:
        """Open the artifact `tokens`, and `capture` if there is one.

        Raises:
            InputError: there are no tokens.
        """
        from engine.students.init.tokenizer import fetch  # not at the top: other forms need no tokenizer, and quick help none

        super().__init__(target)
        tokens, run = target.views.artifacts.get("tokens"), target.views.run
        self.summaries = tokens.metrics(TokensMetrics).tokenizers if tokens else []
        if tokens is None or not self.summaries:
            raise InputError(f"export arrays: {run} has no artifact tokens. `rayleigh run CONTRACT {run} --until tokens` makes it.")
        capture = target.views.artifacts.get("capture")
        self.capture = capture if capture and capture.table("captured").rows else None
        self.writers: list[_Writer] = []
        for summary in self.summaries:
            folder = self.folder / summary.key
            tokenizer = fetch(tokens, summary.key, folder / "tokenizer")
            self.writers.append(_Writer(folder, _aligner(self.capture, tokenizer, summary) if self.capture else None))

    def source(self, query: str) -> str:
        """Return the query of EXAMPLE rows with token ids of each tokenizer, and log-probabilities."""
        joins = [
            f"({query}) a",
            f"left join ({ANSWER}) l on l.answer_id = split_part(a.example_id, '-', 1) and l.answer = a.target",
        ]
        columns = ["a.*", "l.token_logprobs as _answered"]
        for number, summary in enumerate(self.summaries):
            joins.append(f'left join "examples_{summary.key}" t{number} on t{number}.example_id = a.example_id')
            columns.append(f"case when t{number}.example_id is not null then t{number} end as _tokens{number}")
        if self.capture:
            joins.append(f"left join ({CAPTURED}) c on c.example_id = regexp_replace(a.example_id, '{COPY}', '')")
            columns.append("c.captured as _captured")
        return f"select {', '.join(columns)} from {' '.join(joins)}"

    def form(self, row: Row) -> Row | None:
        """Return the row; None if it has no token ids."""
        return row if all(row[f"_tokens{number}"] for number in range(len(self.writers))) else None

    def _start(self, split: str) -> str:
        return split

    def _write(self, file: str, row: Row) -> None:
        for number, writer in enumerate(self.writers):
            writer.put(file, row, row[f"_tokens{number}"])

    def finish(self) -> None:
        """Write what is held."""
        for writer in self.writers:
            writer.flush()

    @property
    def files(self) -> Mapping[str, Mapping[str, int]]:
        """Key of a tokenizer -> name of a file of its folder -> rows; train first."""
        order = {split: number for number, split in enumerate(self.splits)}
        ranked = (
            sorted(writer.rows.items(), key=lambda item: (order[item[0].rpartition("-")[0]], item[0])) for writer in self.writers
        )
        return {summary.key: dict(rows) for summary, rows in zip(self.summaries, ranked, strict=True)}

    @property
    def held(self) -> list[str]:
        """Names of the arrays that some file has."""
        return [name for name in arrays.DOCS if any(name in writer.names for writer in self.writers)]


class _Writer:
    """Files of one tokenizer. Splits alternate in the order of ids, so a shard of each is held."""

    def __init__(self, folder: Path, aligner: "Aligner | None") -> None:
        self.folder, self.aligner = folder, aligner
        self.shards: dict[str, tuple[arrays.Shard, list[Row]]] = {}
        self.written: Counter[str] = Counter()
        self.rows: dict[str, int] = {}
        self.names: set[str] = set()

    def put(self, split: str, row: Row, tokens: Row) -> None:
        """Add a row to the shard of its split."""
        shard, index = self.shards.setdefault(split, (arrays.Shard(), []))
        shard.add(tokens, row["_answered"], self._taught(row, tokens))
        index.append({name: row[name] for name in INDEX.names})
        if shard.size >= LARGEST:
            self._write(split)

    def flush(self) -> None:
        """Write the shards that are held."""
        for split in list(self.shards):
            self._write(split)

    def _taught(self, row: Row, tokens: Row) -> arrays.Distributions | None:
        if not self.aligner:
            return None
        by_teacher = {each["teacher"]: each for each in row["_captured"] or ()}
        found = self.aligner.example(by_teacher, tokens["ids"][tokens["target_start"] :])
        return arrays.Distributions(found.starts, found.ids, found.logprobs, found.tail, found.gate)

    def _write(self, split: str) -> None:
        shard, index = self.shards.pop(split)
        name = f"{split}-{self.written[split]:05d}"
        self.written[split] += 1
        found = shard.arrays()
        arrays.write(self.folder / f"{name}.safetensors", found)
        pq.write_table(pa.Table.from_pylist(index, INDEX), self.folder / f"{name}.parquet", compression="zstd")
        self.rows[name] = shard.rows
        self.names |= found.keys()


def _aligner(capture: Artifact, folder: Path, summary: TokenizerSummary) -> "Aligner":
    """Return what lays the distributions of `capture` on the tokens of the tokenizer in `folder`, as its students read them."""
    from engine.inference.chat_template import load_tokenizer
    from engine.students.data.aligned import Aligner

    tokenizer = load_tokenizer(folder)
    end = tokenizer.convert_tokens_to_ids(summary.turn_end[-1])
    return Aligner(capture.read("vocabulary", VOCABULARY), capture.metrics(CaptureMetrics), tokenizer, end)
