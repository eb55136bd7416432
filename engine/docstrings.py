"""The docstrings under the fields of pydantic models, read from the source when they are wanted.

pydantic's `use_attribute_docstrings` reads them as each class is made: a third of the time that the imports of a command take.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Return field -> the docstring under it, in `model` or in the class that it inherits the field from."""
    docs: dict[str, str] = {}
    for each in reversed(model.__mro__):
        file = getattr(sys.modules.get(each.__module__), "__file__", None)
        if file and issubclass(each, BaseModel) and each is not BaseModel:
            docs |= _classes(file).get(each.__qualname__, {})
    return {name: docs[name] for name in model.model_fields if name in docs}


@cache
def _classes(file: str) -> dict[str, dict[str, str]]:
    """Return qualified name -> docstrings of each class of the file that is in no function."""
    return dict(_in_body(ast.parse(Path(file).read_text(encoding="utf-8")).body, ""))


def _in_body(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, dict(_documented(node.body))
            yield from _in_body(node.body, f"{prefix}{node.name}.")


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield each annotated name that a string follows, and that string."""
    for field, below in pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
