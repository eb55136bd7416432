"""Compiles schemas with xgrammar, in a process of its own: it is C++, and a schema may make it die or run for ever.

The process leaves out what compiling does not need: the package's `__init__` imports torch and transformers, which takes seconds.
This file is the process's script, too.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SECONDS = 60.0  # limit of one process


def grammar_problem(schema: Any) -> str:
    """Return why xgrammar does not compile `schema`, with the place, such as `.properties.a: ...`; "" if it does."""
    [problem] = _ask([schema])
    if not problem:
        return ""
    from engine.contract.answer_schema import subschemas  # not above: the process has the standard library and xgrammar only

    places = [(place.path, place.schema) for place in subschemas(schema) if place.path and place.schema is not False]
    places.sort(key=lambda place: -len(place[0]))  # the deepest one that is refused by itself is the cause
    shared = {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema, dict) and key in schema}
    alone = [{**shared, **child} if isinstance(child, dict) else child for _, child in places]
    for (path, _), found in zip(places, _ask(alone), strict=True):
        if found:
            return f"{path}: {found}"
    return f": {problem}"


def _ask(schemas: Sequence[Any]) -> list[str]:
    """Return for each schema what xgrammar says against it, "" for nothing."""
    try:
        child = subprocess.run(
            [sys.executable, "-I", str(Path(__file__))], input=json.dumps(schemas).encode(), capture_output=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return [f"xgrammar takes more than {SECONDS:g} s to compile it; lower the counts in it"] * len(schemas)
    try:
        return [str(problem) for problem in json.loads(child.stdout)]
    except ValueError:
        words = child.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return [f"xgrammar died of it, exit {child.returncode} {' '.join(words)}"[:300]] * len(schemas)


def _main() -> None:
    """Read a JSON list of schemas; write a list of what is wrong with each."""
    import importlib.util

    absent: Any = None
    sys.modules["torch"] = absent  # an optional import of its bindings
    specification = importlib.util.find_spec("xgrammar")
    problems = []
    schemas = json.loads(sys.stdin.buffer.read())
    if specification is not None:
        sys.modules["xgrammar"] = importlib.util.module_from_spec(specification)  # without running its __init__
        import xgrammar.load_binding  # noqa: F401 - registers the types that `grammar` refers to
        from xgrammar.grammar import Grammar

        for schema in schemas:
            try:
                Grammar.from_json_schema(json.dumps(schema), any_whitespace=False, separators=(",", ":"))
                problems.append("")
            except Exception as error:  # the bindings raise RuntimeError, and what C++ throws
                problems.append(str(error).strip().splitlines()[-1].rpartition(".cc:")[2].partition(" ")[2] or str(error))
    os.write(1, json.dumps(problems or [""] * len(schemas)).encode())


if __name__ == "__main__":
    _main()
