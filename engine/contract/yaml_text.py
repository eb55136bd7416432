"""YAML as its authors mean it: what YAML 1.1, which PyYAML reads, takes for something else stays text, or is refused.

`no`, `2024-01-01` and `1:30` are text, as in YAML 1.2 (core schema, section 10.3.2), not a boolean, a date and the number 90: a
label or a language may be called `no`. Keys that want a boolean take `yes` and `no` all the same. A key that is given twice, a
number with a leading zero (octal in 1.1, decimal in 1.2), and an anchor that holds itself are errors.
"""

import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

PLAIN = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?0b[0-1_]+|[-+]?0[0-9_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
    "float": (
        r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+|[-+]?[0-9][0-9_]*\.[0-9_]*|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
        r"|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
"""Type -> plain scalars that are of it, and with what they begin. Others than null and `<<` are text."""
ZEROS = re.compile(r"[-+]?0[0-9_]+")
PREFIX = "tag:yaml.org,2002:"

Include = Callable[[str], Any]


class Loader(yaml.SafeLoader):
    """Reads one document."""

    yaml_implicit_resolvers: dict[Any, list[tuple[str, Any]]] = {  # noqa: RUF012 - PyYAML's own
        first: [(tag, pattern) for tag, pattern in found if tag in (f"{PREFIX}null", f"{PREFIX}merge")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name
        self.open: list[str] = []  # anchors whose content is being read

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Read a node. Raises ComposerError if it is an anchor that holds itself."""
        event = self.peek_event()
        if isinstance(event, AliasEvent) and event.anchor in self.open:
            raise ComposerError(None, None, f"the anchor &{event.anchor} holds itself; write its content out", event.start_mark)
        return super().compose_node(parent, index)

    def compose_sequence_node(self, anchor: Any) -> SequenceNode:
        """Read a list."""
        self.open.append(anchor)
        node = super().compose_sequence_node(anchor)
        self.open.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Read a mapping. Raises ComposerError if a key is in it twice."""
        self.open.append(anchor)
        node: Any = super().compose_mapping_node(anchor)
        self.open.pop()
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, ScalarNode) and key.tag != f"{PREFIX}merge":
                if (name := (key.tag, key.value)) in lines:
                    found = f"found the key {key.value!r} twice, first on line {lines[name]}; take one of them out"
                    raise ComposerError(None, None, found, key.start_mark)
                lines[name] = key.start_mark.line + 1
        return node


def _whole_number(loader: Any, node: Any) -> int:
    if ZEROS.fullmatch(node.value):
        found = f"found {node.value}: a leading zero makes a number octal for some readers; leave it out, or quote what is text"
        raise ConstructorError(None, None, found, node.start_mark)
    return loader.construct_yaml_int(node)


for name, (pattern, first) in PLAIN.items():
    Loader.add_implicit_resolver(f"{PREFIX}{name}", re.compile(rf"^(?:{pattern})$"), list(first))
Loader.add_constructor(f"{PREFIX}int", _whole_number)


def load_yaml(text: str, name: str, include: Include | None = None) -> Any:
    """Return the value of the YAML document `text`, which the errors call `name`; `include` returns what replaces `!include FILE`.

    Raises:
        yaml.YAMLError: it is no YAML, or it is refused; the message names the line.
    """

    class Includes(Loader):
        pass

    def included(loader: Any, node: Any) -> Any:
        assert include is not None
        return include(str(loader.construct_scalar(node)))

    if include:
        Includes.add_constructor("!include", included)
    try:
        loader = Includes(text, name)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply; a contract has no such depth") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # a tag that is written out, such as !!int abc
        raise yaml.YAMLError(f"a value is not what its tag says: {error}") from None
