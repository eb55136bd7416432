"""What objectives know of each example of a split: its blend of weights, and where its rationale is."""

from dataclasses import replace

import numpy as np

from engine.contract.objectives import Objectives
from engine.rows import SPAN_KINDS
from engine.students.data.pack import Packed
from engine.students.objectives import blend


def marked(packed: Packed, objectives: Objectives) -> Packed:
    """Return `packed` with blends and rationales, as far as `objectives` read them."""
    if any(objectives.blends):
        packed = replace(packed, blends=blend.numbers(objectives, packed.kinds, packed.tiers))
    return replace(packed, rationales=rationales(packed)) if "process" in objectives.active else packed


def rationales(packed: Packed) -> np.ndarray:
    """Return where the rationale of each example begins and ends among its target's tokens, int32 [examples, 2]; 0, 0 = none."""
    found = np.zeros((len(packed), 2), np.int32)
    owners = np.repeat(np.arange(len(packed)), np.diff(packed.span_starts))
    is_rationale = packed.spans[:, 0] == SPAN_KINDS.index("rationale")
    rows = owners[is_rationale]
    found[rows] = packed.spans[is_rationale, 1:] - packed.targets[rows, None]
    return found
