"""The tables of the artifact `capture`."""

import pyarrow as pa

from engine.columns import About, Rules, declare
from engine.rows import COUNT, KEY

SCORED = Rules(values=("stop", "too_long", "refused", "error", "budget_exhausted"))

CAPTURE = declare(
    About(
        "One row per example x teacher; T tokens of the target, the last of which ends the turn.", unique=("example_id", "teacher")
    ),
    ("example_id", pa.string(), "the example, without -againN: copies share a row", KEY),
    ("teacher", pa.string(), "name of the teacher, as in the contract"),
    ("finish_reason", pa.string(), "`stop` if it was scored, else why not", SCORED),
    ("error", pa.string(), '"" = none'),
    ("masked", pa.bool_(), "whether the mask of the answer's schema was applied"),
    ("tokens", pa.int32(), "T, in the teacher's vocabulary", COUNT),
    ("tokens_in", pa.int32(), "tokens of the prompt with which the target was scored", COUNT),
    ("wide", pa.bool_(), "whether an id takes four bytes, else two"),
    # Little-endian arrays; `engine.capture.compact` packs and reads them.
    ("counts", pa.binary(), "u8 [T], entries of each token"),
    ("ranks", pa.binary(), "u8 [T], which entry is the target's; 0 = the teacher's first choice"),
    ("ids", pa.binary(), "u16 or u32, one an entry"),
    ("codes", pa.binary(), "u8, log-probability of each entry, less that of the entry before it, modulo 256"),
    ("tails", pa.binary(), "u8 [T], log of the mass beyond the entries"),
)
COPY = r"-again\d+$"
"""What the id of an example that is a copy of another one ends with; they share a row."""
VOCABULARY = declare(
    About("One row per teacher x id that occurs in the captured distributions.", unique=("teacher", "id")),
    ("teacher", pa.string(), "name of the teacher, as in the contract"),
    ("id", pa.int32(), "id of the token", COUNT),
    ("text", pa.binary(), "its bytes; of a special token its name"),
    ("special", pa.bool_(), "whether it is a special token"),
    ("ends", pa.bool_(), "whether it ends the teacher's turns"),
)
