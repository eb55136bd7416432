"""What travels: PROMPT -> ANSWER -> VERDICT -> CANDIDATE -> PICKED -> EXAMPLE -> PREDICTION.

Each schema of the first five is the one before plus the columns its room adds; no room edits another's columns. Closed sets
stand beside the schemas. Ids are content hashes, so every write is idempotent and every join trivial.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import xxhash

VERSION = 4

LAYERS = ("core", "failure_mode", "long_tail")
DIFFICULTIES = ("easy", "medium", "hard")
FINISH_REASONS = (
    "stop",
    "length",
    "refused",
    "too_long",
    "error",
    "unrouted",
    "budget_exhausted",
)  # only `stop` can ever be accepted
POOLS = ("train", "hard", "contrast", "refusal", "review", "failure")
RELATIONS = ("", "agree", "complementary", "conflicting", "unrelated")  # of several teachers' answers; "" = nothing to compare
KINDS = ("answer", "correction", "contrast", "refusal", "ask", "rewrite")  # of examples; all but the first are boundary material
SYNTHESIS_FAULTS = (  # why what was to be written from a seed is no prompt
    "synthesis_failed",  # no whole reply came
    "synthesis_budget_exhausted",  # not asked, as budget.teacher_tokens was spent
    "synthesis_refused",
    "synthesis_empty",
    "synthesis_echo",  # it repeats what was asked for
    "synthesis_unchanged",  # the words of what it was written from
    "synthesis_unfaithful",  # a paraphrase with other numbers
    "synthesis_unproven",  # the fact that a counter-example must lack may still be there
)
REJECTED = ("unreadable", "encoding", "missing_column", "empty", "too_long", "duplicate_id", "bad_value", *SYNTHESIS_FAULTS)
PROMPT_DROPS = ("exact_copy", "near_copy", "holdout_copy", "holdout_near")
DROPPED_BY = ("", "pool", "sample", "exact", "minhash", "semantic", "contaminated", "quota")  # "" = kept

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
TRAJECTORY = pa.list_(  # what was said on the way to an answer
    pa.struct(
        [
            ("role", pa.string()),  # assistant | tool
            ("content", pa.string()),  # as the model wrote it; a tool's result, "" if it found nothing, or why it failed
            ("tool", pa.string()),  # the one that is called, "" if none is
            ("ok", pa.bool_()),  # the turn could be read; the call succeeded
        ]
    )
)
DIMENSION_SCORES = pa.list_(  # what each rubric gave, dimension by dimension
    pa.struct(
        [
            ("rubric", pa.string()),
            ("dimension", pa.string()),  # "" of a rubric without dimensions, "pairs" where rivals were compared
            ("score", pa.float32()),  # 0 to 1; null = unreadable
        ]
    )
)
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
        ("messages", MESSAGES),  # what the specialist is asked; no instruction, no worked examples
        ("text", pa.string()),  # the user's turns joined: what is grounded, compared and embedded
        ("layer", pa.string()),
        ("difficulty", pa.string()),
        ("scenario", pa.string()),  # the kind of situation, "" if the source does not say
        ("language", pa.string()),
        ("source", pa.string()),  # path or URL as the contract writes it
        ("line", pa.int64()),  # line (JSONL, CSV) or row (Parquet) in the source, from 1
        ("licence", pa.string()),
        ("redacted", pa.list_(pa.string())),  # kinds of personal data that were replaced
        ("parent_id", pa.string()),  # prompt it was synthesized from; null for a seed
        ("reference", pa.string()),  # right output, tests or query, by rule or by hand, never by a model; null where none is mapped
    ]
)
HOLDOUT = PROMPT  # where every row has a reference
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
    ("duplicate_of", pa.string()),  # the prompt it lost to
    ("similarity", pa.float32()),  # Jaccard of its shingles with that prompt, 1 for an exact copy
)
ANSWER = grow(  # one row per prompt x teacher x sample; of a prompt that no route fits one row, without teacher
    PROMPT,
    ("route", pa.string()),  # which rule chose the teachers, "none" if no rule fits; "" where all are asked
    ("answer_id", pa.string()),  # hash of prompt, teacher identity, sampling, seed, sample
    ("teacher", pa.string()),
    ("sample", pa.int32()),
    ("seed", pa.int64()),
    ("reasoning", pa.string()),  # what was thought aloud before the answer, "" if nothing
    ("answer", pa.string()),
    ("finish_reason", pa.string()),  # one of ENDINGS
    ("tokens_in", pa.int32()),
    ("tokens_out", pa.int32()),
    ("logprob", pa.float32()),  # sum over the answer's tokens, nats
    ("seconds", pa.float32()),  # its share of the engine's time
    ("error", pa.string()),  # "" when the row is sound
    ("trajectory", TRAJECTORY),  # turns with tools, the answer's own included; empty where the teacher has none
)
VERDICT = grow(
    ANSWER,
    ("checks", CHECKS),
    ("agreement", pa.float32()),  # share of the prompt's sound samples that say the same
    ("judge", pa.string()),
    ("score", pa.float32()),  # rubric, 0 to 1; null = not asked or unreadable
    ("confidence", pa.float32()),  # probability that the answer is right, as the judge sees it; null = no judgement
    ("dimension_scores", DIMENSION_SCORES),  # of which `score` is the weighted mean; empty = not asked
    ("rubric_spread", pa.float32()),  # largest less smallest score of the rubrics; null with fewer than two
    ("judge_decides", pa.bool_()),  # whether the confidence was allowed to decide
)
CANDIDATE = grow(
    VERDICT,
    ("pool", pa.string()),  # one of POOLS, exactly one
    ("reasons", pa.list_(pa.string())),  # tags: why this pool
    ("relation", pa.string()),  # one of RELATIONS
    ("confidence_tier", pa.int32()),  # of judges.pools.confidence_tiers, 0 = surest; null = no tiers, or no confidence
    ("parents", pa.list_(pa.string())),  # answer_ids that it was made of: by merging, or by a person's correction; else empty
    # What the literature measures to pick by (contract.signals); each is null where it was not asked for.
    ("complexity", pa.float32()),  # of the prompt, as a model marks it: 1 to the number of marks
    ("quality", pa.float32()),  # of the answer to the prompt, likewise
    ("ifd", pa.float32()),  # loss of the answer given the prompt over its loss alone
    ("density", pa.float32()),  # bytes of prompt and answer that remain when compressed, over all their bytes, 0 to 1
)
PICKED = grow(
    CANDIDATE,
    ("cluster", pa.int32()),  # -1 = not clustered
    ("x", pa.float32()),
    ("y", pa.float32()),  # position on the 2-D map of prompts; null = not embedded
    ("dropped_by", pa.string()),  # one of DROPPED_BY
    ("duplicate_of", pa.string()),  # answer_id it lost to, for contaminated the prompt_id in the holdout or list, "" if none
    ("similarity", pa.float32()),  # to rep_id, by the measure of dropped_by
)
EMBEDDING = pa.schema([("prompt_id", pa.string()), ("embedding", pa.list_(pa.float32()))])
EXAMPLE = pa.schema(
    [
        (
            "example_id",
            pa.string(),
        ),  # the answer_id it was made from; then -N for a call in turn N, -againN for a copy
        ("prompt_id", pa.string()),
        ("task_unit", pa.string()),
        ("messages", MESSAGES),  # what the student reads
        ("target", pa.string()),  # what it must say: final, rationale and final, or one turn of a trajectory: see `supervise`
        ("final", pa.string()),
        ("rationale", pa.string()),  # "" if the answer has none
        ("limits", pa.string()),  # what the answer says it cannot know, "" if nothing
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
PREFERENCE = pa.schema(  # one row per pair; prompt, chosen and rejected are what trainers of DPO-like objectives read
    [
        ("pair_id", pa.string()),  # hash of both answer_ids
        ("prompt_id", pa.string()),
        ("task_unit", pa.string()),
        ("prompt", MESSAGES),  # what the student reads
        ("chosen", MESSAGES),  # one assistant's turn each
        ("rejected", MESSAGES),
        ("chosen_id", pa.string()),
        ("rejected_id", pa.string()),
        ("margin", pa.float32()),  # confidence of the chosen less that of the rejected answer; an unjudged one that failed has 0
        ("reason", pa.string()),  # why the other was rejected: a tag
        ("length_ratio", pa.float32()),  # characters of the chosen answer over those of the rejected one
        ("difficulty", pa.string()),
        ("split", pa.string()),  # train | validation, as the prompt's examples
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
        ("confidence", pa.float32()),  # probability of the whole answer; null for models without one
        ("seconds", pa.float32()),  # alone in the engine, batch of one
        ("tokens_in", pa.int32()),
        ("tokens_out", pa.int32()),
        ("seen", pa.bool_()),  # its scenario occurs among the training prompts
        ("valid", pa.bool_()),  # fits the JSON schema
        ("exact", pa.bool_()),
        ("checks", CHECKS),  # of `evaluation.checks`; all fail that look at an answer which did not end by itself
    ]
)
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
    ]
)


def content_id(*parts: object) -> str:
    """Return a 128-bit hash, in hex, of `parts` in order; equal parts have equal ids on every machine."""
    digest = xxhash.xxh3_128()
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `table` with exactly the columns of `schema`, in order and cast safely.

    Raises:
        KeyError: a column of `schema` is not in `table`.
    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise KeyError(f"columns {missing} are not in the table; it has {table.column_names}")
    return table.select(schema.names).cast(schema)


def add(table: pa.Table, schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """Return `table` grown to `schema` by `columns` (name -> values, one per row)."""
    for name, values in columns.items():
        kind = schema.field(name).type
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, kind)
        table = table.append_column(pa.field(name, kind), array.cast(kind))
    return conform(table, schema)


def from_rows(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return a table of `rows`; a column that a row lacks is null."""
    return pa.Table.from_pylist(list(rows), schema=schema)
