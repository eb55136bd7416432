"""What the columns of the tables mean, for `describe` and for the database of `rayleigh sql`."""

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType

from pydantic import BaseModel

from engine import rows
from engine.curation import labels
from engine.serving import schemas

SCHEMAS = {
    "prompts": "PROMPT", "holdout": "PROMPT", "rejects": "REJECT", "dropped": "DROPPED_PROMPT", "candidates": "CANDIDATE",
    "picked": "PICKED", "embeddings": "EMBEDDING", "examples": "EXAMPLE", "preferences": "PREFERENCE", "tokens": "TOKENS",
    "predictions": "PREDICTION", "steps": "STEP", "requests": "REQUEST",
}  # fmt: skip
"""Table -> name of its schema."""
RUN = "Name of the run folder."


def column_docs(table: str) -> dict[str, str]:
    """Return column -> what it means, of the table of an artifact; columns without a text are left out.

    The texts are those beside the columns in `engine/rows.py`. A text in the schema's own metadata would take their place here.
    """
    docs = {"run": RUN, **_texts().get(SCHEMAS.get(table, ""), {})}
    if table == "steps":
        docs.setdefault("student", "Name in the contract.")
    return docs


def record_docs(record: type[BaseModel]) -> dict[str, str]:
    """Return field -> its docstring, on one line."""
    return {name: " ".join(field.description.split()) for name, field in record.model_fields.items() if field.description}


@cache
def _texts() -> Mapping[str, dict[str, str]]:
    """Return schema -> column -> text, read from the source of the modules that declare them."""
    found: dict[str, dict[str, str]] = {}
    for module in (rows, schemas, labels):
        for name, declared, inherited in _declared(module):
            found[name] = {**found.get(inherited, {}), **declared}
    return found


def _declared(module: ModuleType) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the name of each schema of `module`, the texts of its own columns, and the schema that it extends ("" = none)."""
    source = inspect.getsource(module)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name)):
            continue
        bases = [argument.id for argument in node.value.args if isinstance(argument, ast.Name)]
        yield node.targets[0].id, dict(_columns(node.value, comments)), bases[0] if bases else ""


def _columns(call: ast.Call, comments: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    """Yield column and text: the third item of its tuple, or the comment at the end of its line."""
    items = [item for argument in call.args for item in (argument.elts if isinstance(argument, ast.List) else [argument])]
    for item in items:
        if isinstance(item, ast.Tuple) and isinstance(item.elts[0], ast.Constant):
            third = item.elts[2] if len(item.elts) > 2 else None
            text = third.value if isinstance(third, ast.Constant) else comments.get(item.end_lineno or item.lineno, "")
            if text and text != "fmt: skip":
                yield str(item.elts[0].value), str(text)
