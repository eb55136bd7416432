"""Training objectives of a student."""

from pydantic import Field

from engine.contract.base import Section


class Objectives(Section):
    """Weight of each training objective in the loss."""

    sft: float = Field(default=1.0, gt=0)
    """Cross entropy of the target tokens only."""
