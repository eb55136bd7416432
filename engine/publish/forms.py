"""One example, or one pair of preferences, in the forms that trainers read.

    messages      {"messages": [{"role", "content"}, ...]}                     TRL's conversational form, axolotl `chat_template`
    sharegpt      {"conversations": [{"from", "value"}, ...]}                  LLaMA-Factory's default, axolotl
    alpaca        {"instruction", "input", "output", "system", "history"}      LLaMA-Factory, axolotl `alpaca`
    preferences   {"prompt": [...], "chosen": [...], "rejected": [...]}        TRL's explicit-prompt form

The last turn of an example is its target. A form that cannot express a row returns None: the row is counted, and left out.
"""

from collections.abc import Callable, Sequence
from typing import Any

from engine.rows import Row

NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
"""Role -> its name in ShareGPT."""
Form = Callable[[Row], Row | None]


def messages(row: Row) -> Row | None:
    """Return an EXAMPLE row as a conversation."""
    return {"messages": _turns(row)}


def sharegpt(row: Row) -> Row | None:
    """Return an EXAMPLE row as a conversation in ShareGPT's names; None unless the turns after the system text alternate.

    LLaMA-Factory skips a conversation that does not alternate between human (or observation) and gpt.
    """
    turns = _turns(row)
    if not _alternates([turn for turn in turns if turn["role"] != "system"], others=("user", "tool")):
        return None
    return {"conversations": [{"from": NAMES[turn["role"]], "value": turn["content"]} for turn in turns]}


def alpaca(row: Row) -> Row | None:
    """Return an EXAMPLE row as instruction and output, earlier turns as `history`; None for a conversation with tools.

    `instruction` is the last turn of the user, and `input` is empty: the trainers join both by a line break.
    """
    turns = _turns(row)
    spoken = [turn for turn in turns if turn["role"] != "system"]
    if not _alternates(spoken, others=("user",)):
        return None
    texts = [turn["content"] for turn in spoken]
    return {
        "instruction": texts[-2],
        "input": "",
        "output": texts[-1],
        "system": "\n".join(turn["content"] for turn in turns if turn["role"] == "system"),
        "history": [list(pair) for pair in zip(texts[:-2:2], texts[1:-2:2], strict=True)],
    }


def preferences(row: Row) -> Row | None:
    """Return a PREFERENCE row as its three conversations."""
    return {name: row[name] for name in ("prompt", "chosen", "rejected")}


FORMS: dict[str, Form] = {"messages": messages, "sharegpt": sharegpt, "alpaca": alpaca, "preferences": preferences}


def dataset_info(form: str, name: str, files: Sequence[str]) -> dict[str, Any]:
    """Return LLaMA-Factory's `dataset_info.json` of the JSONL `files` in `form`; empty for a form that it does not read."""
    about: dict[str, dict[str, Any]] = {
        "messages": {
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                "observation_tag": "tool", "system_tag": "system",
            },
        },
        "sharegpt": {
            "formatting": "sharegpt",
            "columns": {"messages": "conversations"},
            "tags": {
                "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
                "observation_tag": "observation", "system_tag": "system",
            },
        },
        "alpaca": {
            "formatting": "alpaca",
            "columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"},
        },
    }  # fmt: skip
    if form not in about:
        return {}
    return {f"{name}_{file.partition('.')[0]}": {"file_name": file, **about[form]} for file in files}


def _turns(row: Row) -> list[dict[str, str]]:
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]
    return [*turns, {"role": "assistant", "content": row["target"]}]


def _alternates(turns: Sequence[Row], *, others: tuple[str, ...]) -> bool:
    """Return whether the turns are of `others` and of the assistant in turn, and the first is not the assistant's."""
    return len(turns) % 2 == 0 and all(
        (turn["role"] == "assistant") if index % 2 else (turn["role"] in others) for index, turn in enumerate(turns)
    )
