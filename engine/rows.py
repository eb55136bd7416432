"""The schemas of all tables: PROMPT -> ANSWER -> VERDICT -> CANDIDATE -> PICKED -> EXAMPLE -> TOKENS -> PREDICTION.

Each of the first five is the one before it plus the columns that its room adds; no room changes another's columns. The values of
closed sets are listed above the schemas. Ids are content hashes: writing a row twice gives the same row, and tables join by id.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import xxhash

VERSION = 6
"""Of all schemas together; `engine/storage/migrations.py` reads older tables."""

LAYERS = ("core", "failure_mode", "long_tail")
DIFFICULTIES = ("easy", "medium", "hard")
FINISH_REASONS = ("stop", "length", "refused", "too_long", "error", "unrouted", "budget_exhausted")  # `stop` alone can be accepted
POOLS = ("train", "hard", "contrast", "refusal", "review", "failure")
RELATIONS = ("", "agree", "complementary", "conflicting", "unrelated")  # to other teachers' answers; "" = there are none
KINDS = ("answer", "correction", "contrast", "refusal", "ask", "rewrite", "swap")  # of examples
SPAN_KINDS = ("rationale", "final", "tool_call", "turn_end")  # of the tokens of a target
SYNTHESIS_FAULTS = (  # why a reply of the synthesis is not a prompt
    "synthesis_failed",  # the reply is incomplete
    "synthesis_budget_exhausted",  # not asked, because budget.teacher_tokens was spent
    "synthesis_refused",
    "synthesis_empty",
    "synthesis_echo",  # it repeats the request
    "synthesis_unchanged",  # it has the same words as its seed
    "synthesis_unfaithful",  # a paraphrase with other numbers
    "synthesis_unproven",  # a counter-example that may still contain the fact it must lack
)
CONVERSATION_FAULTS = ("unknown_role", "tool_calls", "media", "ends_with_assistant")  # why a conversation is not a prompt
WITHDRAWN = "withdrawn"  # the contract names the row among those that may not be used
REJECTED = ("unreadable", "encoding", "missing_column", "empty", "too_long", "duplicate_id", "bad_value", WITHDRAWN)
REJECTED += CONVERSATION_FAULTS + SYNTHESIS_FAULTS
PROMPT_DROPS = ("exact_copy", "near_copy", "holdout_copy", "holdout_near")
DROPPED_BY = ("", "pool", "sample", "exact", "minhash", "semantic", "contaminated", "quota")  # "" = kept

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
TRAJECTORY = pa.list_(  # the turns before an answer, and the answer
    pa.struct(
        [
            ("role", pa.string()),  # assistant | tool
            ("content", pa.string()),  # text of the model; or result of the tool ("" = nothing found), or its error
            ("tool", pa.string()),  # name of the tool that is called, "" = none
            ("ok", pa.bool_()),  # whether the turn could be parsed, or the call succeeded
        ]
    )
)
DIMENSION_SCORES = pa.list_(  # one entry for each dimension of each rubric
    pa.struct(
        [
            ("rubric", pa.string()),
            ("dimension", pa.string()),  # "" for a rubric without dimensions, "pairs" for comparisons of rivals
            ("score", pa.float32()),  # 0 to 1; null = unreadable
        ]
    )
)
TOKEN_LOGPROBS = pa.list_(pa.struct([("end", pa.int32()), ("logprob", pa.float32())]))
"""`end`: index in the answer of the character after the token, -1 = unknown; nats. The last entry is the end of the turn."""
CHECKS = pa.list_(pa.struct([("check", pa.string()), ("passed", pa.bool_()), ("tag", pa.string()), ("detail", pa.string())]))


Row = dict[str, Any]
"""One row of any of these schemas as plain values: column -> value."""


def grow(schema: pa.Schema, *columns: tuple[str, pa.DataType]) -> pa.Schema:
    """Return `schema` with `columns` added at the end."""
    return pa.schema([*schema, *(pa.field(name, kind) for name, kind in columns)])


PROMPT = pa.schema(
    [
        ("prompt_id", pa.string()),  # hash of source and messages: the same prompt has the same id in every run
        ("task_unit", pa.string()),
        ("messages", MESSAGES),  # the request to the specialist, without instruction and worked examples
        ("text", pa.string()),  # the user turns joined; checks, deduplication and embeddings use it
        ("layer", pa.string()),
        ("difficulty", pa.string()),
        ("scenario", pa.string()),  # kind of situation; "" = the source has none
        ("language", pa.string()),
        ("source", pa.string()),  # path or URL, as in the contract
        ("line", pa.int64()),  # line (JSONL, CSV) or row (Parquet) in the source, from 1
        ("licence", pa.string()),
        ("redacted", pa.list_(pa.string())),  # kinds of personal data that were replaced
        ("parent_id", pa.string()),  # prompt_id from which it was synthesized; null for a seed
        ("reference", pa.string()),  # right output, tests or query; by rule, by hand, or what ended the chat; null = none
    ]
)
HOLDOUT = PROMPT  # every row has a reference
REJECT = pa.schema(
    [
        ("source", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),  # one of REJECTED
        ("detail", pa.string()),
        ("raw", pa.string()),  # the first 200 characters, as read
    ]
)
DROPPED_PROMPT = grow(
    PROMPT,
    ("dropped_by", pa.string()),  # one of PROMPT_DROPS
    ("duplicate_of", pa.string()),  # prompt_id of the prompt that stays
    ("similarity", pa.float32()),  # Jaccard similarity of the shingles of both, 0 to 1
)
ANSWER = grow(  # one row per prompt x teacher x sample; one row without a teacher for a prompt that no route fits
    PROMPT,
    ("route", pa.string()),  # rule that chose the teachers, "none" = no rule fits, "" = all teachers are asked
    ("answer_id", pa.string()),  # hash of prompt, teacher identity, sampling, seed, sample
    ("teacher", pa.string()),
    ("sample", pa.int32()),
    ("seed", pa.int64()),
    ("reasoning", pa.string()),  # reasoning before the answer, "" = none
    ("answer", pa.string()),
    ("finish_reason", pa.string()),  # one of FINISH_REASONS
    ("tokens_in", pa.int32()),
    ("tokens_out", pa.int32()),
    ("logprob", pa.float32()),  # sum over the answer's tokens, nats
    ("seconds", pa.float32()),  # share of the engine's time
    ("error", pa.string()),  # "" = none
    ("trajectory", TRAJECTORY),  # turns with tools, including the answer; empty for a teacher without tools
    ("token_logprobs", TOKEN_LOGPROBS),  # of the answer's tokens, at temperature 1 without a schema's mask; null = not given
)
VERDICT = grow(
    ANSWER,
    ("checks", CHECKS),
    ("agreement", pa.float32()),  # share of the prompt's complete samples with the same answer, 0 to 1
    ("judge", pa.string()),
    ("score", pa.float32()),  # weighted mean of the rubrics, 0 to 1; null = not asked, or unparseable
    ("confidence", pa.float32()),  # the judge's probability that the answer is right; null = not judged
    ("dimension_scores", DIMENSION_SCORES),  # `score` is their weighted mean; empty = not asked
    ("rubric_spread", pa.float32()),  # largest minus smallest score of the rubrics; null with fewer than two
    ("judge_decides", pa.bool_()),  # whether the confidence decided the pool
)
CANDIDATE = grow(
    VERDICT,
    ("pool", pa.string()),  # one of POOLS
    ("reasons", pa.list_(pa.string())),  # tags that say why
    ("relation", pa.string()),  # one of RELATIONS
    ("confidence_tier", pa.int32()),  # index into judges.pools.confidence_tiers, 0 = surest; null = no tiers, or no confidence
    ("parents", pa.list_(pa.string())),  # answer_ids that were merged, or that a person corrected; else empty
    # Signals to pick by (`judges.signals`); null = not measured.
    ("complexity", pa.float32()),  # of the prompt, rated by a model: 1 to the length of its scale
    ("quality", pa.float32()),  # of the answer, rated by a model: 1 to the length of its scale
    ("ifd", pa.float32()),  # loss of the answer given the prompt, divided by its loss alone
    ("density", pa.float32()),  # compressed size of prompt and answer divided by their size, 0 to 1
)
PICKED = grow(
    CANDIDATE,
    ("cluster", pa.int32()),  # -1 = not clustered
    ("x", pa.float32()),
    ("y", pa.float32()),  # position on the 2-D map of prompts; null = not embedded
    ("dropped_by", pa.string()),  # one of DROPPED_BY
    ("duplicate_of", pa.string()),  # answer_id that stays; of `contaminated` the prompt_id in the holdout or list; "" = none
    ("similarity", pa.float32()),  # to `duplicate_of`, by the measure of `dropped_by`
)
EMBEDDING = pa.schema([("prompt_id", pa.string()), ("embedding", pa.list_(pa.float32()))])
EXAMPLE = pa.schema(
    [
        ("example_id", pa.string()),  # answer_id; then -N: call in turn N of a trajectory, -againN: a copy, -swapN: a variant
        ("prompt_id", pa.string()),
        ("task_unit", pa.string()),
        ("messages", MESSAGES),  # input of the student
        ("target", pa.string()),  # output of the student: `final`, rationale and final, or a turn (`supervise` of the task unit)
        ("final", pa.string()),
        ("rationale", pa.string()),  # "" = the answer has none
        ("limits", pa.string()),  # what the answer says that it cannot know, "" = nothing
        ("pool", pa.string()),
        ("layer", pa.string()),
        ("difficulty", pa.string()),
        ("cluster", pa.int32()),
        ("weight", pa.float32()),
        ("split", pa.string()),  # train | validation
        ("kind", pa.string()),  # one of KINDS
        ("confidence_tier", pa.int32()),  # of the answer
    ]
)
SPANS = pa.list_(  # parts of a target, in order; `end` is the index after the last token
    pa.struct([("kind", pa.string()), ("start", pa.int32()), ("end", pa.int32())])  # one of SPAN_KINDS; indices into `ids`
)
TOKENS = pa.schema(  # one row per example x tokenizer, in the order of example_id
    [
        ("example_id", pa.string()),
        ("split", pa.string()),  # train | validation
        ("kind", pa.string()),  # one of KINDS
        ("ids", pa.list_(pa.int32())),  # prompt in the tokenizer's template with generation prompt, target, end of the turn
        ("target_start", pa.int32()),  # index into `ids` of the target's first token
        ("spans", SPANS),  # they cover the target: what stands between two parts belongs to the one before
        ("weight", pa.float32()),
        ("confidence_tier", pa.int32()),
        ("difficulty", pa.string()),
    ]
)
PREFERENCE = pa.schema(  # one row per pair; DPO trainers read `prompt`, `chosen` and `rejected`
    [
        ("pair_id", pa.string()),  # hash of both answer_ids
        ("prompt_id", pa.string()),
        ("task_unit", pa.string()),
        ("prompt", MESSAGES),  # input of the student
        ("chosen", MESSAGES),  # one assistant turn, as `rejected`
        ("rejected", MESSAGES),
        ("chosen_id", pa.string()),
        ("rejected_id", pa.string()),
        ("margin", pa.float32()),  # confidence of the chosen less that of the rejected answer; a failed, unjudged one counts as 0
        ("reason", pa.string()),  # tag that says why the other was rejected
        ("length_ratio", pa.float32()),  # characters of the chosen answer divided by those of the rejected one
        ("difficulty", pa.string()),
        ("split", pa.string()),  # train | validation, as the examples of the prompt
    ]
)
PREDICTION = pa.schema(  # one row per model x holdout prompt
    [
        ("model", pa.string()),
        ("role", pa.string()),  # teacher | student | champion | baseline
        ("prompt_id", pa.string()),
        ("layer", pa.string()),
        ("difficulty", pa.string()),
        ("scenario", pa.string()),
        ("task_unit", pa.string()),
        ("text", pa.string()),
        ("reference", pa.string()),
        ("answer", pa.string()),
        ("finish_reason", pa.string()),
        ("confidence", pa.float32()),  # probability of the whole answer; null = the model gives none
        ("seconds", pa.float32()),  # latency in a batch of one
        ("tokens_in", pa.int32()),
        ("tokens_out", pa.int32()),
        ("seen", pa.bool_()),  # whether its scenario occurs among the training prompts
        ("valid", pa.bool_()),  # whether it fits the JSON schema
        ("exact", pa.bool_()),  # whether it equals the reference
        ("checks", CHECKS),  # of `evaluation.checks`; an incomplete answer fails all of them
    ]
)
PARTS = pa.list_(pa.struct([("objective", pa.string()), ("loss", pa.float32())]))
STEP = pa.schema(  # one row per optimizer step or validation
    [
        ("student", pa.string()),
        ("step", pa.int32()),
        ("epoch", pa.float32()),
        ("split", pa.string()),  # train | validation
        ("loss", pa.float32()),  # mean per target token, nats
        ("learning_rate", pa.float32()),
        ("tokens", pa.int64()),  # target tokens so far
        ("seconds", pa.float32()),
        ("seed", pa.int64()),  # of the training; null in runs that are older than the column
        # Shares of exact answers at a validation, 0 to 1; null = nothing was generated.
        ("metric", pa.float32()),  # what chose the best model: the mean of those below
        ("served", pa.float32()),  # under the answer schema and spans of the prompt
        ("unconstrained", pa.float32()),  # without them
        ("parts", PARTS),  # terms of the loss, each times its weight; null where one objective is all
    ]
)
TABLES = {
    "prompts": PROMPT, "holdout": HOLDOUT, "rejects": REJECT, "dropped": DROPPED_PROMPT, "candidates": CANDIDATE, "picked": PICKED,
    "embeddings": EMBEDDING, "examples": EXAMPLE, "preferences": PREFERENCE, "predictions": PREDICTION, "steps": STEP,
}  # fmt: skip
"""Name of a table of an artifact -> its schema."""


def content_id(*parts: object) -> str:
    """Return a 128-bit hash of `parts` in order, as hex; equal parts have equal ids on every machine."""
    digest = xxhash.xxh3_128()
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `table` with exactly the columns of `schema`, in its order and cast safely to its types.

    Raises:
        KeyError: a column of `schema` is not in `table`.
    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise KeyError(f"columns {missing} are not in the table; it has {table.column_names}")
    return table.select(schema.names).cast(schema)


def add(table: pa.Table, schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """Return `table` with `columns` (name -> values, one per row) added, in `schema`.

    Raises:
        KeyError: a column of `schema` is in neither.
    """
    for name, values in columns.items():
        kind = schema.field(name).type
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, kind)
        table = table.append_column(pa.field(name, kind), array.cast(kind))
    return conform(table, schema)


def from_rows(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return a table of `rows`; a column that a row lacks is null in it."""
    return pa.Table.from_pylist(list(rows), schema=schema)
