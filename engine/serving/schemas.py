"""The tables of a server: requests, and comparisons in shadow."""

import pyarrow as pa

from engine.columns import About, Rules, declare
from engine.rows import COUNT, FINISH_REASONS, KEY, NULL, SHARE_OR_NULL

MILLISECONDS = Rules(low=0, null=True, unit="milliseconds")

REQUEST = declare(
    About("One row per request to a model.", unique=("request_id",)),
    ("request_id", pa.string(), "id of the request", KEY),
    ("time", pa.timestamp("us", tz="UTC"), "when it arrived"),
    ("deployment", pa.string(), "fingerprint of what answered"),
    ("unit", pa.string(), 'task unit, "" = the request names none'),
    ("path", pa.string(), "how it was asked", Rules(values=("chat", "task"))),
    ("prompt_hash", pa.string(), "hash of the messages, as they came; null = they could not be read", NULL),
    ("prompt", pa.string(), "redacted text of the user's turns; null = it is not kept", NULL),
    ("status", pa.int16(), "HTTP status"),
    ("error", pa.string(), 'code of the error, "" = none'),
    ("route", pa.string(), 'what gave the answer: student, or the name of that to which it was handed on; "" = nothing did'),
    ("reason", pa.string(), 'why it was handed on or abstained, "" = it was not'),
    ("abstained", pa.bool_(), "whether it got no answer on purpose"),
    ("answer", pa.string(), "redacted; null = there is none", NULL),
    ("confidence", pa.float32(), "probability of the student's whole answer; null = not asked, or not given", SHARE_OR_NULL),
    ("finish_reason", pa.string(), '"" = no answer', Rules(values=("", *FINISH_REASONS))),
    ("latency_ms", pa.float32(), "from the request's head to the reply", MILLISECONDS),
    ("queue_ms", pa.float32(), "part of it in the queue; null = it did not reach the engine", MILLISECONDS),
    ("engine_ms", pa.float32(), "time of the engine, shared with requests computed at the same time; null as above", MILLISECONDS),
    ("tokens_in", pa.int32(), "tokens of the request", COUNT),
    ("tokens_out", pa.int32(), "tokens of the answer", COUNT),
    ("cost", pa.float64(), "in the contract's currency", NULL),
)
SHADOW = declare(
    About("One row per request that was compared in shadow; no caller gets these answers.", unique=("request_id",)),
    ("request_id", pa.string(), "that of the table of requests", KEY),
    ("time", pa.timestamp("us", tz="UTC"), "when it was compared"),
    ("unit", pa.string(), "task unit"),
    ("prompt", pa.string(), "redacted text of the user's turns; null = it is not kept", NULL),
    ("champion", pa.string(), "fingerprint of the deployment that answered the caller"),
    ("challenger", pa.string(), "fingerprint of what is compared; that of the champion if the teacher is asked alone"),
    ("reference", pa.string(), "fingerprint of whose answer counts as right"),
    ("champion_answer", pa.string(), "redacted, as all answers; null = none, or not complete", NULL),
    ("challenger_answer", pa.string(), "as the champion's", NULL),
    ("reference_answer", pa.string(), "as the champion's", NULL),
    ("challenger_fault", pa.string(), 'why it gave no answer, "" = it gave one, or is not asked'),
    ("reference_fault", pa.string(), 'why it gave no answer, "" = it gave one'),
    ("agrees", pa.bool_(), "whether the challenger's answer is the reference's; null = it failed, or there is no reference", NULL),
    ("champion_agrees", pa.bool_(), "the same of the champion; null as above, or it is itself the reference", NULL),
    ("champion_confidence", pa.float32(), "probability of its whole answer; null = none", SHARE_OR_NULL),
    ("challenger_confidence", pa.float32(), "probability of its whole answer; null = none", SHARE_OR_NULL),
    ("challenger_ms", pa.float32(), "time of its answer; null = it was not asked", MILLISECONDS),
    ("reference_ms", pa.float32(), "time of its answer; null = it was not asked", MILLISECONDS),
    ("word", pa.string(), "of the comparison after this row", Rules(values=("keep watching", "promote", "refuse"))),
    ("pairs", pa.int32(), "rows that count so far", COUNT),
)
