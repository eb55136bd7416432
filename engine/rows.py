"""The schemas of all tables: PROMPT -> ANSWER -> VERDICT -> CANDIDATE -> PICKED -> EXAMPLE -> TOKENS -> PREDICTION.

Each of the first five is the one before it plus the columns that its room adds; no room changes another's columns. The values of
closed sets are listed above the schemas. Ids are content hashes: writing a row twice gives the same row, and tables join by id.
Text and rules of a column go to its Parquet files and to `engine/storage/TABLES.md`; `rayleigh check-data` checks the rules.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import xxhash

from engine.columns import About, Rules, declare, structs

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
    "synthesis_refused", "synthesis_empty", "synthesis_echo",  # the last repeats the request
    "synthesis_unchanged",  # it has the same words as its seed
    "synthesis_unfaithful",  # a paraphrase with other numbers
    "synthesis_unproven",  # a counter-example that may still contain the fact it must lack
)  # fmt: skip
CONVERSATION_FAULTS = ("unknown_role", "tool_calls", "media", "ends_with_assistant")  # why a conversation is not a prompt
WITHDRAWN = "withdrawn"  # the contract names the row among those that may not be used
REJECTED = ("unreadable", "encoding", "missing_column", "empty", "too_long", "duplicate_id", "bad_value", WITHDRAWN)
REJECTED += CONVERSATION_FAULTS + SYNTHESIS_FAULTS
PROMPT_DROPS = ("exact_copy", "near_copy", "holdout_copy", "holdout_near")
DROPPED_BY = ("", "pool", "sample", "exact", "minhash", "semantic", "contaminated", "quota")  # "" = kept
SPLITS, ROLES = ("train", "validation"), ("teacher", "student", "champion", "baseline")

NULL, KEY, KEY_OR_NULL, COUNT = Rules(null=True), Rules(key=True), Rules(key=True, null=True), Rules(low=0)
SHARE_OR_NULL, SECONDS = Rules(low=0, high=1, null=True), Rules(low=0, null=True, unit="seconds")
NATS, FILLED, COUNT_OR_NULL = Rules(null=True, unit="nats"), Rules(low=1), Rules(low=0, null=True)
LAYER, DIFFICULTY, ENDED = Rules(values=LAYERS), Rules(values=DIFFICULTIES), Rules(values=FINISH_REASONS)
POOL, SPLIT, KIND = Rules(values=POOLS), Rules(values=SPLITS), Rules(values=KINDS)

MESSAGES = structs(("role", pa.string(), "system, user or assistant"), ("content", pa.string(), "text of the turn"))
TRAJECTORY = structs(
    ("role", pa.string(), "of the turn", Rules(values=("assistant", "tool"))),
    ("content", pa.string(), 'text of the model; or result of the tool ("" = nothing found), or its error'),
    ("tool", pa.string(), 'name of the tool that is called, "" = none'),
    ("ok", pa.bool_(), "whether the turn could be parsed, or the call succeeded"),
)
DIMENSION_SCORES = structs(
    ("rubric", pa.string(), "name of the rubric"),
    ("dimension", pa.string(), '"" for a rubric without dimensions, "pairs" for comparisons of rivals'),
    ("score", pa.float32(), "null = unreadable", SHARE_OR_NULL),
)
TOKEN_LOGPROBS = structs(
    ("end", pa.int32(), "index in the answer of the character after the token, -1 = unknown", Rules(low=-1)),
    ("logprob", pa.float32(), "log-probability of the token; the last entry is the end of the turn", NATS),
)
CHECKS = structs(
    ("check", pa.string(), "name of the check"), ("passed", pa.bool_(), "whether the answer passed it"),
    ("tag", pa.string(), 'reason of the failure as a tag, "" = passed', NULL),
    ("detail", pa.string(), "reason of the failure in words", NULL),
)  # fmt: skip
Row = dict[str, Any]
"""One row of any of these schemas as plain values: column -> value."""


def grow(schema: pa.Schema, *columns: tuple[str, pa.DataType]) -> pa.Schema:
    """Return `schema` with `columns` added at the end. A table of an artifact is declared instead, with texts."""
    return pa.schema([*schema, *(pa.field(name, kind) for name, kind in columns)])


PROMPT = declare(
    About("One row per prompt.", unique=("prompt_id",)),
    ("prompt_id", pa.string(), "hash of source and messages: the same prompt has the same id in every run", KEY),
    ("task_unit", pa.string(), "name of the task unit, as in the contract"),
    ("messages", MESSAGES, "request to the specialist, without instruction and worked examples", FILLED),
    ("text", pa.string(), "user turns joined; checks, deduplication and embeddings use it"),
    ("layer", pa.string(), "part of the task that the prompt exercises", LAYER),
    ("difficulty", pa.string(), "as the source says", DIFFICULTY),
    ("scenario", pa.string(), 'kind of situation; "" = the source has none'),
    ("language", pa.string(), 'code of the language, "" = unknown'),
    ("source", pa.string(), "path or URL, as in the contract"),
    ("line", pa.int64(), "line (JSONL, CSV) or row (Parquet) in the source, from 1", FILLED),
    ("licence", pa.string(), "of the source, as in the contract"),
    ("redacted", pa.list_(pa.string()), "kinds of personal data that were replaced"),
    ("parent_id", pa.string(), "prompt_id from which it was synthesized; null for a seed", KEY_OR_NULL),
    ("reference", pa.string(), "right output, tests or query; by rule, by hand, or what ended the chat; null = none", NULL),
)
HOLDOUT = PROMPT  # every row has a reference
REJECT = declare(
    About("One row per row of a source that is no prompt."),
    ("source", pa.string(), "path or URL, as in the contract"),
    ("line", pa.int64(), "line or row in the source, from 1", COUNT),
    ("reason", pa.string(), "why it is no prompt", Rules(values=REJECTED)),
    ("detail", pa.string(), "the reason in words"),
    ("raw", pa.string(), "first 200 characters, as read"),
)
DROPPED_PROMPT = declare(
    About("One row per prompt that is a copy of another one.", PROMPT, ("source", "line", "prompt_id")),
    ("dropped_by", pa.string(), "what kind of copy it is", Rules(values=PROMPT_DROPS)),
    ("duplicate_of", pa.string(), "prompt_id of the prompt that stays", KEY),
    ("similarity", pa.float32(), "Jaccard similarity of the shingles of both", SHARE_OR_NULL),
)
ANSWER = declare(
    About("One row per prompt x teacher x sample; one without a teacher where no route fits.", PROMPT, ("answer_id",)),
    ("route", pa.string(), 'rule that chose the teachers, "none" = no rule fits, "" = all teachers are asked'),
    ("answer_id", pa.string(), "hash of prompt, teacher identity, sampling, seed, sample", KEY),
    ("teacher", pa.string(), 'name of the teacher, as in the contract; "" = none'),
    ("sample", pa.int32(), "number of the sample, from 0", COUNT),
    ("seed", pa.int64(), "of the sampling; null = nothing was sampled", NULL),
    ("reasoning", pa.string(), 'reasoning before the answer, "" = none'),
    ("answer", pa.string(), "text of the answer"),
    ("finish_reason", pa.string(), "how the answer ended; `stop` alone can be accepted", ENDED),
    ("tokens_in", pa.int32(), "tokens of the request", COUNT),
    ("tokens_out", pa.int32(), "tokens of reasoning and answer", COUNT),
    ("logprob", pa.float32(), "sum over the answer's tokens; null = not given", NATS),
    ("seconds", pa.float32(), "share of the engine's time", SECONDS),
    ("error", pa.string(), '"" = none'),
    ("trajectory", TRAJECTORY, "turns with tools, including the answer; empty for a teacher without tools"),
    ("token_logprobs", TOKEN_LOGPROBS, "of the answer's tokens, at temperature 1 without a schema's mask; null = not given", NULL),
)
VERDICT = declare(
    About("One row per answer, checked and judged.", ANSWER),
    ("checks", CHECKS, "outcome of each check"),
    ("agreement", pa.float32(), "share of the prompt's complete samples with the same answer", SHARE_OR_NULL),
    ("judge", pa.string(), 'what gave the confidence, "" = nothing; `person` after a review'),
    ("score", pa.float32(), "weighted mean of the rubrics; null = not asked, or unparseable", SHARE_OR_NULL),
    ("confidence", pa.float32(), "the judge's probability that the answer is right; null = not judged", SHARE_OR_NULL),
    ("dimension_scores", DIMENSION_SCORES, "one entry for each dimension of each rubric; empty = not asked"),
    ("rubric_spread", pa.float32(), "largest minus smallest score of the rubrics; null with fewer than two", SHARE_OR_NULL),
    ("judge_decides", pa.bool_(), "whether the confidence decided the pool"),
)
CANDIDATE = declare(
    About("One row per answer, with its pool.", VERDICT),
    ("pool", pa.string(), "where the answer goes", POOL),
    ("reasons", pa.list_(pa.string()), "tags that say why"),
    ("relation", pa.string(), 'to other teachers\' answers; "" = there are none', Rules(values=RELATIONS)),
    ("confidence_tier", pa.int32(), "index into judges.pools.confidence_tiers, 0 = surest; null = none", COUNT_OR_NULL),
    ("parents", pa.list_(pa.string()), "answer_ids that were merged, or that a person corrected; else empty"),
    ("complexity", pa.float32(), "of the prompt, rated by a model: 1 to the length of its scale", Rules(low=1, null=True)),
    ("quality", pa.float32(), "of the answer, rated by a model: 1 to the length of its scale", Rules(low=1, null=True)),
    ("ifd", pa.float32(), "loss of the answer given the prompt, divided by its loss alone", COUNT_OR_NULL),
    ("density", pa.float32(), "compressed size of prompt and answer divided by their size", COUNT_OR_NULL),
)  # the last four are signals to pick by (`judges.signals`); null = not measured
PICKED = declare(
    About("One row per candidate, with why it was kept or dropped.", CANDIDATE),
    ("cluster", pa.int32(), "number of the cluster, -1 = not clustered", Rules(low=-1)),
    ("x", pa.float32(), "position on the 2-D map of prompts; null = not embedded", NULL),
    ("y", pa.float32(), "other coordinate of the position", NULL),
    ("dropped_by", pa.string(), 'step that dropped the row; "" = kept', Rules(values=DROPPED_BY)),
    ("duplicate_of", pa.string(), 'answer_id that stays; of `contaminated` the prompt_id in the holdout or list; "" = none', KEY),
    ("similarity", pa.float32(), "to `duplicate_of`, by the measure of `dropped_by`", SHARE_OR_NULL),
)
EMBEDDING = declare(
    About("One row per prompt of which an answer was compared by meaning.", unique=("prompt_id",)),
    ("prompt_id", pa.string(), "the prompt", KEY),
    ("embedding", pa.list_(pa.float32()), "of its text, of length 1", FILLED),
)
EXAMPLE = declare(
    About("One row per example that students learn.", unique=("example_id",), split="split"),
    ("example_id", pa.string(), "answer_id; then -N for the call in turn N of a trajectory, -KIND, -swapN, -againN: a copy", KEY),
    ("prompt_id", pa.string(), "the prompt", KEY),
    ("task_unit", pa.string(), "name of the task unit, as in the contract"),
    ("messages", MESSAGES, "input of the student", FILLED),
    ("target", pa.string(), "output of the student: `final`, rationale and final, or a turn (`supervise` of the task unit)"),
    ("final", pa.string(), "the part of the target that is compared with a reference"),
    ("rationale", pa.string(), '"" = the answer has none'),
    ("limits", pa.string(), 'what the answer says that it cannot know, "" = nothing'),
    ("pool", pa.string(), "of the answer", POOL),
    ("layer", pa.string(), "of the prompt", LAYER),
    ("difficulty", pa.string(), "of the prompt", DIFFICULTY),
    ("cluster", pa.int32(), "of the prompt, -1 = not clustered", Rules(low=-1)),
    ("weight", pa.float32(), "factor of its loss", COUNT),
    ("split", pa.string(), "whether it is learned or measures the loss", SPLIT),
    ("kind", pa.string(), "all but `answer` come from failed answers", KIND),
    ("confidence_tier", pa.int32(), "of the answer", COUNT_OR_NULL),
)
SPANS = structs(
    ("kind", pa.string(), "of the part", Rules(values=SPAN_KINDS)),
    ("start", pa.int32(), "index into `ids` of its first token", COUNT),
    ("end", pa.int32(), "index after its last token", FILLED),
)
TOKENS = declare(
    About("One row per example x tokenizer, in the order of example_id.", unique=("example_id",)),
    ("example_id", pa.string(), "the example", KEY),
    ("split", pa.string(), "of the example", SPLIT),
    ("kind", pa.string(), "of the example", KIND),
    ("ids", pa.list_(pa.int32()), "prompt in the tokenizer's template with generation prompt, target, end of the turn", FILLED),
    ("target_start", pa.int32(), "index into `ids` of the target's first token", COUNT),
    ("spans", SPANS, "parts of the target in order: they cover it, what stands between two belongs to the one before", FILLED),
    ("weight", pa.float32(), "of the example", COUNT),
    ("confidence_tier", pa.int32(), "of the answer", COUNT_OR_NULL),
    ("difficulty", pa.string(), "of the prompt", DIFFICULTY),
)
PREFERENCE = declare(
    About("One row per pair; DPO trainers read `prompt`, `chosen` and `rejected`.", unique=("pair_id",), split="split"),
    ("pair_id", pa.string(), "hash of both answer_ids", KEY),
    ("prompt_id", pa.string(), "the prompt", KEY),
    ("task_unit", pa.string(), "name of the task unit, as in the contract"),
    ("prompt", MESSAGES, "input of the student", FILLED),
    ("chosen", MESSAGES, "the better answer, one assistant turn", FILLED),
    ("rejected", MESSAGES, "the worse answer, one assistant turn", FILLED),
    ("chosen_id", pa.string(), "answer_id", KEY),
    ("rejected_id", pa.string(), "answer_id", KEY),
    ("margin", pa.float32(), "confidence of the chosen less that of the rejected answer; a failed, unjudged one counts as 0", NULL),
    ("reason", pa.string(), "tag that says why the other was rejected"),
    ("length_ratio", pa.float32(), "characters of the chosen answer divided by those of the rejected one", COUNT_OR_NULL),
    ("difficulty", pa.string(), "of the prompt", DIFFICULTY),
    ("split", pa.string(), "as the examples of the prompt", SPLIT),
)
PREDICTION = declare(
    About("One row per model x holdout prompt.", unique=("model", "prompt_id")),
    ("model", pa.string(), "name of the model"),
    ("role", pa.string(), "of the model", Rules(values=ROLES)),
    ("prompt_id", pa.string(), "in the holdout", KEY),
    ("layer", pa.string(), "of the prompt", LAYER),
    ("difficulty", pa.string(), "of the prompt", DIFFICULTY),
    ("scenario", pa.string(), "of the prompt"),
    ("task_unit", pa.string(), "of the prompt"),
    ("text", pa.string(), "of the prompt"),
    ("reference", pa.string(), "right output"),
    ("answer", pa.string(), "of the model"),
    ("finish_reason", pa.string(), "how the answer ended", ENDED),
    ("confidence", pa.float32(), "probability of the whole answer; null = the model gives none", SHARE_OR_NULL),
    ("seconds", pa.float32(), "latency in a batch of one; null = not timed", SECONDS),
    ("tokens_in", pa.int32(), "tokens of the request", COUNT),
    ("tokens_out", pa.int32(), "tokens of the answer", COUNT),
    ("seen", pa.bool_(), "whether its scenario occurs among the training prompts"),
    ("valid", pa.bool_(), "whether it fits the JSON schema"),
    ("exact", pa.bool_(), "whether it equals the reference"),
    ("checks", CHECKS, "of `evaluation.checks`; an incomplete answer fails all of them"),
)
PARTS = structs(("objective", pa.string(), "name of the objective"), ("loss", pa.float32(), "its term of the loss", NULL))
STEP = declare(
    About("One row per optimizer step or validation of a student."),
    ("student", pa.string(), "name of the student, as in the contract"),
    ("step", pa.int32(), "number of the optimizer step", COUNT),
    ("epoch", pa.float32(), "passes over the examples so far", COUNT),
    ("split", pa.string(), "what the loss is of", SPLIT),
    ("loss", pa.float32(), "mean per target token", Rules(unit="nats")),
    ("learning_rate", pa.float32(), "of the step; null at a validation", COUNT_OR_NULL),
    ("tokens", pa.int64(), "target tokens so far", COUNT),
    ("seconds", pa.float32(), "since the start of the training", SECONDS),
    ("seed", pa.int64(), "of the training; null in runs that are older than the column", NULL),
    ("metric", pa.float32(), "share of exact answers that chose the best model: the mean of the next two", SHARE_OR_NULL),
    ("served", pa.float32(), "share of exact answers under the answer schema and spans of the prompt; null = none", SHARE_OR_NULL),
    ("unconstrained", pa.float32(), "share of exact answers without them; null = nothing was generated", SHARE_OR_NULL),
    ("parts", PARTS, "terms of the loss, each times its weight; null where one objective is all", NULL),
)
TABLES = {
    "prompts": PROMPT, "holdout": HOLDOUT, "rejects": REJECT, "dropped": DROPPED_PROMPT, "candidates": CANDIDATE, "picked": PICKED,
    "embeddings": EMBEDDING, "examples": EXAMPLE, "preferences": PREFERENCE, "predictions": PREDICTION, "steps": STEP,
}  # fmt: skip
"""Name of a table of an artifact -> its schema."""


def content_id(*parts: object) -> str:
    """Return a 128-bit hash of `parts` in order, as hex; equal parts have equal ids on every machine."""
    texts = [str(part).encode("utf-8", "surrogatepass") for part in parts]
    return xxhash.xxh3_128_hexdigest(b"".join([piece for text in texts for piece in (len(text).to_bytes(8, "little"), text)]))


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
