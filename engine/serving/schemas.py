"""The table of requests."""

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
