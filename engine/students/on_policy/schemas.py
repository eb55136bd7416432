"""The rows of a round: what the student is asked, and what it answered."""

import pyarrow as pa

from engine.rows import MESSAGES, grow

TRAIN, HELD_OUT = "train", "held_out"
"""What a question is for: to learn from its samples, or to measure the student on one."""
QUESTION = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("split", pa.string()),  # train | held_out
        ("task_unit", pa.string()),
        ("messages", MESSAGES),  # input of the student
        ("asked", MESSAGES),  # messages of the prompt, without instruction
        ("text", pa.string()),  # of the prompt
        ("reference", pa.string()),  # of the prompt; null = none
        ("scenario", pa.string()),
        ("language", pa.string()),
    ]
)
PAID = pa.schema(  # of the ledger
    [
        ("prompt_id", pa.string()),
        ("sample_id", pa.string()),  # hash of the student's weights, the messages, the seed and the sampling
        ("sample", pa.int32()),  # number among those of its prompt
        ("answer", pa.string()),
        ("finish_reason", pa.string()),  # one of FINISH_REASONS
        ("ids", pa.list_(pa.int32())),  # tokens of the answer, with the end of its turn
        ("logprob", pa.float32()),  # sum over `ids`, nats, temperature 1; null = the engine gives none
        ("error", pa.string()),  # "" = none
    ]
)
SAMPLE = grow(
    pa.schema([*QUESTION, *(PAID.field(name) for name in PAID.names[1:])]),
    ("reward", pa.float32()),  # weighted share of passed checks, 0 to 1; null without rewards
    ("failed", pa.list_(pa.string())),  # names of the checks that it did not pass
)
