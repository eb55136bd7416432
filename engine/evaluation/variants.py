"""Other targets of the same examples: with or without the rationale, with what is not stated, and the answer as it was written."""

from typing import Literal, NamedTuple

from engine.rows import Row

Supervise = Literal["answer", "process"]


class Variant(NamedTuple):
    """A change of the target of every example of an answer."""

    kind: str
    """Kind of its bucket."""
    value: str
    """The part or form that the change adds or takes away."""
    what: str
    adds: bool
    """Whether the change adds it."""
    supervise: Supervise | None
    """How a student that learnt it is asked (`supervise` of the task unit); None: as the contract says."""


VARIANTS = {
    "rationale": Variant("target", "rationale", "the rationale before the final answer, added", True, "process"),
    "final": Variant("target", "rationale", "the rationale before the final answer, taken away", False, "answer"),
    "limits": Variant("target", "limits", "what the answer leaves open, before the final answer", True, "process"),
    "written": Variant("representation", "canonical", "compact JSON in the order of the schema, not as written", False, None),
}


def target(name: str, example: Row, answer: str | None) -> str:
    """Return the target of an EXAMPLE row in the variant `name`; `answer` is what the teacher wrote, None if the row is none of it.

    Only examples that are an answer (kind `answer`) and end with their final answer change.
    """
    present, final = example["target"], example["final"]
    if example["kind"] != "answer" or not present.endswith(final):
        return present
    if name == "final":
        return final
    if name == "rationale":
        return f"{example['rationale']}\n{final}" if example["rationale"] else present
    if name == "limits":
        return f"{present.removesuffix(final)}{example['limits']}\n{final}" if example["limits"] else present
    return present if answer is None else answer.strip()


def changed(example: Row, answer: str | None) -> frozenset[str]:
    """Return the names of VARIANTS in which the target of an EXAMPLE row differs."""
    return frozenset(name for name in VARIANTS if target(name, example, answer) != example["target"])
