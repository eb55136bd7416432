"""The tables of the artifact `capture`."""

import pyarrow as pa

CAPTURE = pa.schema(  # one row per example x teacher; T tokens of the target, the last of which ends the turn
    [
        ("example_id", pa.string()),  # without -againN: copies share a row
        ("teacher", pa.string()),
        ("finish_reason", pa.string()),  # `stop` if it was scored, else too_long, refused, error or budget_exhausted
        ("error", pa.string()),  # "" = none
        ("masked", pa.bool_()),  # whether the mask of the answer's schema was applied
        ("tokens", pa.int32()),  # T, in the teacher's vocabulary
        ("tokens_in", pa.int32()),  # tokens of the prompt with which the target was scored
        ("wide", pa.bool_()),  # whether an id takes four bytes, else two
        # Little-endian arrays; `engine.capture.compact` packs and reads them.
        ("counts", pa.binary()),  # u8 [T], entries of each token
        ("ranks", pa.binary()),  # u8 [T], which entry is the target's; 0 = the teacher's first choice
        ("ids", pa.binary()),  # u16 or u32, one an entry
        ("codes", pa.binary()),  # u8, log-probability of each entry, less that of the entry before it, modulo 256
        ("tails", pa.binary()),  # u8 [T], log of the mass beyond the entries
    ]
)
COPY = r"-again\d+$"
"""What the id of an example that is a copy of another one ends with; they share a row."""
VOCABULARY = pa.schema(  # one row per teacher x id that occurs in CAPTURE
    [
        ("teacher", pa.string()),
        ("id", pa.int32()),
        ("text", pa.binary()),  # its bytes; of a special token its name
        ("special", pa.bool_()),
        ("ends", pa.bool_()),  # whether it ends the teacher's turns
    ]
)
