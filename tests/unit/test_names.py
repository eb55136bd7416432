"""Names that no type checker looks at: attributes of our own modules, and functions named by a text such as `jobs.steps.x:run`."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = [path for folder in ("engine", "jobs", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
FUNCTION = re.compile(r"((?:engine|jobs)(?:\.\w+)+):(\w+)")


@cache
def names(module: str) -> frozenset[str] | None:
    """Return what the module or package of our own defines; None if there is none of this name."""
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        inner = frozenset(each.stem for each in path.iterdir() if each.suffix == ".py" or each.is_dir())
        return inner | (_defined(path / "__init__.py") if (path / "__init__.py").is_file() else frozenset())
    return _defined(path.with_suffix(".py")) if path.with_suffix(".py").is_file() else None


def _defined(path: Path) -> frozenset[str]:
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(each.asname or each.name).split(".")[0] for each in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return frozenset(found)


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the name by which a file calls a module of ours, and the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for each in node.names:
                if names(f"{node.module}.{each.name}") is not None and each.name in (names(node.module) or ()):
                    yield each.asname or each.name, f"{node.module}.{each.name}"


def lacking(place: str, text: str) -> Iterator[str]:
    """Yield the attributes and functions that the Python file `text` at `place` names, and that are not there."""
    tree = ast.parse(text)
    modules = dict(imported(tree))
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id not in stored:
            module = modules.get(node.value.id)
            if module and node.attr not in (names(module) or ()) and not node.attr.startswith("__"):
                yield f"{place}:{node.lineno}: {module} has no {node.attr}"
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module and names(node.module) is not None:
            gone = [each.name for each in node.names if each.name not in (names(node.module) or ())]
            yield from (f"{place}:{node.lineno}: {node.module} has no {name}" for name in gone)
        elif isinstance(node, ast.Constant) and (match := FUNCTION.fullmatch(str(node.value))):
            module, name = match.groups()
            if name not in (names(module) or ()):
                yield f"{place}:{node.lineno}: {module} has no {name}"


def test_every_name_of_a_module_of_ours_is_there() -> None:
    texts = ((str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in FILES)
    assert [problem for place, text in texts for problem in lacking(place, text)] == []


def test_a_function_that_has_moved_is_found() -> None:
    text = "from jobs.commands import ablate, no\nablate.gone()\nJOB = 'jobs.steps.tokens:gone'\nablate.ablate()\n"
    assert sorted(lacking("x.py", text)) == [
        "x.py:1: jobs.commands has no no",
        "x.py:2: jobs.commands.ablate has no gone",
        "x.py:3: jobs.steps.tokens has no gone",
    ]
