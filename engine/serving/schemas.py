"""The table of requests."""

import pyarrow as pa

REQUEST = pa.schema(  # one row per request to a model
    [
        ("request_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),  # when it arrived
        ("deployment", pa.string()),  # fingerprint of what answered
        ("unit", pa.string()),  # task unit, "" = the request names none
        ("path", pa.string()),  # chat | task
        ("prompt_hash", pa.string()),  # hash of the messages, as they came; null = they could not be read
        ("prompt", pa.string()),  # redacted text of the user's turns; null = it is not kept
        ("status", pa.int16()),  # HTTP
        ("error", pa.string()),  # code of the error, "" = none
        ("route", pa.string()),  # what gave the answer: student, or the name of that to which it was handed on; "" = nothing did
        ("reason", pa.string()),  # why it was handed on or abstained, "" = it was not
        ("abstained", pa.bool_()),
        ("answer", pa.string()),  # redacted; null = there is none
        ("confidence", pa.float32()),  # probability of the student's whole answer; null = not asked, or the engine gives none
        ("finish_reason", pa.string()),  # one of rows.FINISH_REASONS, "" = no answer
        ("latency_ms", pa.float32()),  # from the request's head to the reply
        ("queue_ms", pa.float32()),  # part of it in the queue; null = it did not reach the engine
        ("engine_ms", pa.float32()),  # time of the engine, shared with requests computed at the same time; null as above
        ("tokens_in", pa.int32()),
        ("tokens_out", pa.int32()),
        ("cost", pa.float64()),  # in the contract's currency
    ]
)
