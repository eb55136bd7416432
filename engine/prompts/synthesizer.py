"""Writes prompts from seeds. One per actor: the model loads at the first that is not in the ledger yet, or not at all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.contract.models import Model
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.contract.synthesize import Synthesis
from engine.inference.crash_isolation import CrashIsolator
from engine.inference.engine import Completion, Engine, Request, build_model
from engine.inference.identity import identity
from engine.inference.ledger import Ledger
from engine.prompts import ablate_fact
from engine.prompts.files import SourceFile
from engine.prompts.formats import RawRow
from engine.prompts.methods import Ask, chat, read
from engine.prompts.quota import ASK
from engine.prompts.sources import INGESTED, RowReject, ingest_row
from engine.rows import PROMPT, content_id, grow
from engine.storage.shards import Folder

SHOWN = pa.schema([*ASK, pa.field("batch", pa.int64()), *PROMPT])  # a seed, as it is shown for an ask
WRITTEN = grow(INGESTED, ("tokens_in", pa.int32()), ("tokens_out", pa.int32()))
PAID = pa.schema(
    [
        ("ask_id", pa.string()),  # hash of all that the reply depends on
        ("parent_id", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("tokens_in", pa.int32()),
        ("tokens_out", pa.int32()),
        ("error", pa.string()),
    ]
)
KILLED = Completion("", "error", 0, 0, error="killed its engine, alone and in every batch that it was part of")
COPIED = ("layer", "difficulty", "scenario", "language")
Reply = dict[str, Any]  # a row of PAID


@dataclass(frozen=True)
class SynthesizerSpec:
    """All that a synthesizer needs, in plain picklable values. Its syntheses have the same model."""

    syntheses: Sequence[Synthesis]
    model: Model | None
    """Who writes; null if a rule does."""
    specialist: Specialist
    pool: Pool
    folder: Path | None
    """The model's weights."""
    ledger: Folder
    """Replies that were paid for, perhaps by other runs too."""
    markers: Folder
    """Who is at work, in this run."""
    numbers: Mapping[str, int]
    """By title, of the file that its rows seem to come from, behind those of all sources."""
    max_chars: int


class Synthesizer:
    """SHOWN in, WRITTEN out: one row for each ask, a prompt or why it is none."""

    def __init__(self, desk: SynthesizerSpec) -> None:
        self.desk = desk
        self.syntheses = {one.title: one for one in desk.syntheses}
        self.identity = identity(desk.model, desk.folder) if desk.model else ""
        self.engine: Engine | None = None
        self.trials = CrashIsolator(desk.markers, hang_seconds=desk.pool.hang_seconds, at_once=desk.pool.max_num_seqs)
        self.ledger = Ledger(desk.ledger, PAID, key="ask_id", place="parent_id")

    def __call__(self, shown: pa.Table) -> Iterator[pa.Table]:
        yield WRITTEN.empty_table()
        if not shown.num_rows:
            return
        rows = shown.select(SHOWN.names).sort_by([(name, "ascending") for name in ("batch", "title", "ask", "slot")])
        for _, batch in groupby(rows.to_pylist(), key=itemgetter("batch")):
            yield self._write([self._ask(list(seeds)) for _, seeds in groupby(batch, key=itemgetter("title", "ask"))])

    def _write(self, asks: Sequence[Ask]) -> pa.Table:
        """All asks of a batch, whose composition is the same in every run."""
        rows, open_ = [], []
        for ask in asks:
            try:
                open_.append(self._prepared(ask))
            except RowReject as fault:
                rows.append(self._row(ask, fault=fault))
        for ask, reply in zip(open_, self._replies(open_), strict=True):
            try:
                rows.append(self._row(ask, self._text(ask, reply), reply=reply))
            except RowReject as fault:
                rows.append(self._row(ask, fault=fault, reply=reply))
        return pa.Table.from_pylist(rows, schema=WRITTEN)

    def _ask(self, seeds: Sequence[dict[str, Any]]) -> Ask:
        first = seeds[0]
        synthesis = self.syntheses[first["title"]]
        seed = int(content_id(synthesis.sampling.seed, first["prompt_id"], synthesis.title, first["ask"])[:8], 16)
        return Ask(first["ask"], synthesis, first["wanted"], seeds, seed)

    def _prepared(self, ask: Ask) -> Ask:
        """Raises Fault: there is nothing to ask for."""
        if ask.synthesis.method.type != "counter_example":
            return ask
        return ask._replace(fact=ablate_fact.choose_fact(ask.parent["text"], self._output(ask), seed=ask.seed))

    def _text(self, ask: Ask, reply: Reply | None) -> str:
        """Raises Fault: what was written is no prompt."""
        if reply and reply["finish_reason"] != "stop":
            raise RowReject("synthesis_failed", f"{reply['finish_reason']}: {reply['error']}".rstrip(": "))
        if ask.fact is None:
            assert reply
            return read(ask, reply["text"])
        if reply is None:
            return read(ask, ablate_fact.remove_fact(ask.parent["text"], ask.fact, self._output(ask)))
        text = read(ask, reply["text"])
        ablate_fact.verify_removed(ask.parent["text"], text, ask.fact, self._output(ask))
        return text

    def _output(self, ask: Ask) -> Any:
        return self.desk.specialist.unit(ask.parent["task_unit"]).output

    def _replies(self, asks: Sequence[Ask]) -> list[Reply | None]:
        """Return what the model says to each ask, from the ledger or paid for now; None if a rule writes."""
        if self.desk.model is None or not asks:
            return [None] * len(asks)
        with self.ledger.block(ask.parent["prompt_id"] for ask in asks):
            return self._asked(self.desk.model, asks)

    def _asked(self, model: Model, asks: Sequence[Ask]) -> list[Reply | None]:
        ids = [self._id(ask) for ask in asks]
        paid: dict[str, Reply] = {reply["ask_id"]: reply for reply in self.ledger.find(ids).to_pylist()}
        open_ = [(one, ask) for one, ask in zip(ids, asks, strict=True) if one not in paid]
        if open_ and self.engine is None:
            build = partial(build_model, model, self.desk.pool, folder=self.desk.folder)
            self.engine = self.trials.load(build, model.path)

        def pay(batch: Sequence[int]) -> None:
            paid.update(self._pay([open_[index] for index in batch]))

        def give_up(index: int) -> None:
            paid.update(self._record([open_[index]], [KILLED]))

        self.trials([one for one, _ in open_], pay, give_up)
        return [paid[one] for one in ids]

    def _id(self, ask: Ask) -> str:
        synthesis = ask.synthesis
        request = str(chat(ask, self.desk.specialist.goal))
        return content_id(self.identity, request, synthesis.sampling.model_dump_json(), ask.seed)

    def _pay(self, asks: Sequence[tuple[str, Ask]]) -> dict[str, Reply]:
        """Each synthesis samples in its own way, so each is a call of its own."""
        assert self.engine is not None
        self.engine.reset_prefix_cache()
        paid: dict[str, Reply] = {}
        for _, group in groupby(asks, key=lambda pair: pair[1].synthesis.title):
            mine = list(group)
            sampling = mine[0][1].synthesis.sampling
            requests = [Request(chat(ask, self.desk.specialist.goal), ask.seed, sampling.temperature) for _, ask in mine]
            paid |= self._record(mine, self.engine.complete(requests, sampling))
        return paid

    def _record(self, asks: Sequence[tuple[str, Ask]], said: Sequence[Completion]) -> dict[str, Reply]:
        """Return the replies by their id, once those that were paid for are in the ledger."""
        replies = {
            one: {"ask_id": one, "parent_id": ask.parent["prompt_id"], **{name: getattr(reply, name) for name in PAID.names[2:]}}
            for (one, ask), reply in zip(asks, said, strict=True)
        }
        kept = [reply for reply, completion in zip(replies.values(), said, strict=True) if not completion.retryable]
        self.ledger.record(pa.Table.from_pylist(kept, schema=PAID))
        return replies

    def _row(self, ask: Ask, text: str = "", *, fault: RowReject | None = None, reply: Reply | None = None) -> dict[str, Any]:
        """A row of WRITTEN, validated as a row of a source is."""
        parent, source = ask.parent, f"synthesize/{ask.synthesis.title}"
        piece = SourceFile(
            url="",
            source=source,
            path=source,
            number=self.desk.numbers[ask.synthesis.title],
            split="train",
            task_unit=parent["task_unit"],
            licence=parent["licence"],
            columns={name: name for name in ("messages", *COPIED)},
        )
        turns = [*(turn for turn in parent["messages"] if turn["role"] == "system"), {"role": "user", "content": text}]
        fields = {name: parent[name] for name in COPIED} | {"messages": turns, "layer": ask.layer}
        if ask.fact:
            fields["scenario"] = f"missing_{ask.fact.field}"
        reason, detail = fault.args if fault else ("", "")
        shown = reply["text"] if reply else text
        row = ingest_row(RawRow(ask.number, fields, shown, reason, detail), piece, max_chars=self.desk.max_chars)
        paid = {name: reply[name] if reply else 0 for name in ("tokens_in", "tokens_out")}
        return row | paid | {"layer": ask.layer, "parent_id": parent["prompt_id"], "round": ask.seeds[0]["round"]}
