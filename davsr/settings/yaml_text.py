"""Options as YAML text: one meaning for each key, bounded in depth and size, and values shown in a few characters."""

from __future__ import annotations

import reprlib
from typing import Any

import yaml

from davsr.errors import InputError
from davsr.guards.limits import require_below


class _Short(reprlib.Repr):
    """repr of what a user wrote, cut short: a few hundred bytes of aliases may stand for millions of entries."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 2, 6, 6, 6
        self.maxstring = self.maxother = 100

    def repr_int(self, value: int, level: int) -> str:
        return f"a number of {value.bit_length()} bits" if value.bit_length() > 256 else repr(value)


shown = _Short().repr

_DEEPEST = 50  # levels of a file; options have half a dozen


class _UniqueKeyLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` lets the last of two equal keys win; here the second one is an error.

    It also goes as deep as Python lets it, deeper where another library asked for more; here there is an end.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.depth == _DEEPEST:
            raise InputError("options: values are nested too deeply")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise InputError(
                    f"options: keys must be names, got {shown(key)} in line {key_node.start_mark.line + 1}"
                )
            if key in seen:
                raise InputError(f"options: {key} is given twice, again in line {key_node.start_mark.line + 1}")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        """YAML 1.1 reads 1:30 as the number 90, in base sixty; here it stays the text that it is: a range of frames."""
        return node.value if ":" in node.value else super().construct_yaml_int(node)


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _UniqueKeyLoader.construct_yaml_int)


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML with the safe loader, refusing duplicate keys. `source` names the text in errors."""
    require_below("OPTION_BYTES", len(text), f"options: {source} has")
    try:
        tree = yaml.load(text, _UniqueKeyLoader)
        _require_few(tree, source)
        return tree
    except InputError as error:
        raise InputError(f"{error} of {source}") from None
    except RecursionError:
        raise InputError(f"options: {source} is not valid YAML: it is nested too deeply") from None
    # What a tag or a date cannot be made of comes out of PyYAML as whatever int(), datetime() or a missing match raise.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        raise InputError(f"options: {source} is not valid YAML: {' '.join(str(error).split())}") from None


def _require_few(tree: Any, source: str) -> None:
    """Raise InputError where aliases of aliases make of a few lines more values than anybody could walk through."""
    waiting, count = [tree], 0
    while waiting:
        value = waiting.pop()
        parts = (
            list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
        )
        count += 1 + len(parts)
        require_below("OPTION_VALUES", count, f"options: {source} expands to")
        waiting.extend(parts)
