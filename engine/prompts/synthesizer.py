"""Writes prompts from seeds. One per actor; the model is loaded at the first prompt that is not in the ledger yet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from engine.contract.profile import Pool
from engine.contract.renames import older_json
from engine.contract.specialist import Output, Specialist
from engine.contract.synthesize import Synthesis
from engine.inference.client import CRASHED, Batch, ClientSpec, ModelClient, completed
from engine.inference.engine import Completion, Engine, Request
from engine.prompts import ablate_fact
from engine.prompts.conversation import RowReject
from engine.prompts.files import SourceFile
from engine.prompts.methods import Ask, chat, read
from engine.prompts.quota import ASK
from engine.prompts.sources import INGESTED, ingest_row
from engine.readers.raw import RawRow
from engine.rows import PROMPT, Row, content_id, grow

SHOWN = pa.schema([*ASK, pa.field("batch", pa.int64()), *PROMPT])  # one row for each seed that is shown for an ask
WRITTEN = grow(INGESTED, ("tokens_in", pa.int32()), ("tokens_out", pa.int32()))
PAID = pa.schema(
    [
        ("parent_id", pa.string()),
        ("ask_id", pa.string()),  # hash of all that the reply depends on
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("tokens_in", pa.int32()),
        ("tokens_out", pa.int32()),
        ("error", pa.string()),
    ]
)
COPIED = ("layer", "difficulty", "scenario", "language")


@dataclass(frozen=True)
class SynthesizerSpec:
    """Configuration of a synthesizer; plain picklable values. Its syntheses have the same model."""

    syntheses: Sequence[Synthesis]
    specialist: Specialist
    pool: Pool
    client: ClientSpec | None
    """None if a rule writes instead of a model."""
    numbers: Mapping[str, int]
    """Title of a synthesis -> number of the file that its rows count as, after those of all sources."""
    max_chars: int


class Synthesizer:
    """SHOWN in, WRITTEN out: one row for each ask, a prompt or a reject with its reason."""

    def __init__(self, spec: SynthesizerSpec) -> None:
        self.spec = spec
        self.syntheses = {synthesis.title: synthesis for synthesis in spec.syntheses}
        self.client: ModelClient[Ask] | None = None
        if spec.client:
            self.client = ModelClient(
                spec.client, PAID, prompt_id=lambda ask: ask.parent["prompt_id"], crashed=lambda ask: _paid(CRASHED)
            )

    def __call__(self, shown: pa.Table) -> Iterator[pa.Table]:
        yield WRITTEN.empty_table()
        if not shown.num_rows:
            return
        rows = shown.select(SHOWN.names).sort_by([(name, "ascending") for name in ("batch", "title", "ask", "slot")])
        for _, batch in groupby(rows.to_pylist(), key=itemgetter("batch")):
            yield self._write([self._ask(list(seeds)) for _, seeds in groupby(batch, key=itemgetter("title", "ask"))])

    def _write(self, asks: Sequence[Ask]) -> pa.Table:
        """Return the rows of a batch, whose composition is the same in every run."""
        rows, prepared = [], []
        for ask in asks:
            try:
                prepared.append(self._prepared(ask))
            except RowReject as reject:
                rows.append(self._row(ask, reject=reject))
        for ask, reply in zip(prepared, self._replies(prepared), strict=True):
            try:
                rows.append(self._row(ask, self._text(ask, reply), reply=reply))
            except RowReject as reject:
                rows.append(self._row(ask, reject=reject, reply=reply))
        return pa.Table.from_pylist(rows, schema=WRITTEN)

    def _ask(self, seeds: Sequence[Row]) -> Ask:
        first = seeds[0]
        synthesis = self.syntheses[first["title"]]
        seed = int(content_id(synthesis.sampling.seed, first["prompt_id"], synthesis.title, first["ask"])[:8], 16)
        return Ask(first["ask"], synthesis, first["wanted"], seeds, seed)

    def _prepared(self, ask: Ask) -> Ask:
        """Raises RowReject: the parent has no fact to leave out."""
        if ask.synthesis.method.type != "counter_example":
            return ask
        return ask._replace(fact=ablate_fact.choose_fact(ask.parent["text"], self._output(ask), seed=ask.seed))

    def _text(self, ask: Ask, reply: Row | None) -> str:
        """Return the written prompt.

        Raises:
            RowReject: the reply is no prompt, or there is none.
        """
        if self.client and reply is None:
            raise RowReject("synthesis_budget_exhausted", "not asked: budget.teacher_tokens was spent")
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

    def _output(self, ask: Ask) -> Output:
        return self.spec.specialist.unit(ask.parent["task_unit"]).output

    def _replies(self, asks: Sequence[Ask]) -> list[Row | None]:
        """Return the reply to each ask, from the ledger or paid for now; None without a model, or if the budget is spent."""
        if self.client is None or not asks:
            return [None] * len(asks)
        keys = [self._key(self.client.identity, ask) for ask in asks]
        may_pay, replies = not self.client.budget.is_exhausted(), dict[str, Row]()
        with self.client.block(ask.parent["prompt_id"] for ask in asks):
            # What one synthesis has paid is recorded before the next one is asked, and may fail.
            for _, group in groupby(zip(keys, asks, strict=True), key=lambda pair: pair[1].synthesis.title):
                mine = dict(group)
                replies |= self.client.answer(mine, self._complete, capped=False) if may_pay else self.client.find(mine)
        return [replies.get(key) for key in keys]

    def _key(self, identity: str, ask: Ask) -> str:
        sampling = older_json(ask.synthesis.sampling, "prompts.synthesize.*.sampling")
        return content_id(identity, str(chat(ask, self.spec.specialist.goal)), sampling, ask.seed)

    def _complete(self, engine: Engine, asks: Sequence[Ask]) -> Batch:
        """Answer the asks of one synthesis, which have its sampling."""
        sampling = asks[0].synthesis.sampling
        requests = [Request(chat(ask, self.spec.specialist.goal), ask.seed, sampling.temperature) for ask in asks]
        completions = engine.complete(requests, sampling)
        return completed(completions, [_paid(completion) for completion in completions])

    def _row(self, ask: Ask, text: str = "", *, reject: RowReject | None = None, reply: Row | None = None) -> Row:
        """Return a row of WRITTEN, validated like a row of a source."""
        parent, source = ask.parent, f"synthesize/{ask.synthesis.title}"
        piece = SourceFile(
            url="",
            source=source,
            path=source,
            number=self.spec.numbers[ask.synthesis.title],
            split="train",
            task_unit=parent["task_unit"],
            licence=parent["licence"],
            columns={name: name for name in ("messages", *COPIED)},
        )
        turns = [*(turn for turn in parent["messages"] if turn["role"] == "system"), {"role": "user", "content": text}]
        fields = {name: parent[name] for name in COPIED} | {"messages": turns, "layer": ask.layer}
        if ask.fact:
            fields["scenario"] = f"missing_{ask.fact.field}"
        reason, detail = reject.args if reject else ("", "")
        shown = reply["text"] if reply else text
        row = ingest_row(RawRow(ask.number, fields, shown, reason, detail), piece, max_chars=self.spec.max_chars)
        paid = {name: reply[name] if reply else 0 for name in ("tokens_in", "tokens_out")}
        return row | paid | {"layer": ask.layer, "parent_id": parent["prompt_id"], "round": ask.seeds[0]["round"]}


def _paid(completion: Completion) -> Row:
    return {name: getattr(completion, name) for name in PAID.names[2:]}
