"""YAML to frozen dataclasses: every key known, every value of its field's type, every error with its dotted path."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from davsr.errors import InputError

T = TypeVar("T")


def option(
    default: Any,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
) -> Any:
    """A dataclass field with a range: `minimum` and `maximum` are inclusive, `above` is exclusive.

    Ranges of a tuple field hold for each of its entries.
    """
    limits = {"minimum": minimum, "maximum": maximum, "above": above}
    return dataclasses.field(default=default, metadata={k: v for k, v in limits.items() if v is not None})


class _UniqueKeyLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` lets the last of two equal keys win; here the second one is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise InputError(f"options: keys must be names, got {key!r} in line {key_node.start_mark.line + 1}")
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
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise InputError(f"options: {source} is not valid YAML: {' '.join(str(error).split())}") from None
    except InputError as error:
        raise InputError(f"{error} of {source}") from None


def load(
    cls: type[T], path: str | Path | None, overrides: Iterable[str] = (), *, base: Mapping[str, Any] | None = None
) -> T:
    """Build the dataclass `cls` from a YAML file and `section.key=value` overrides.

    Args:
        cls: a frozen dataclass whose fields are dataclasses, scalars, literals, tuples or optional ones.
        path: the YAML file, or None for the defaults.
        overrides: strings `section.key=value`; the value is YAML (`[5, 4, 4]`, `2e-4`, `null`).
        base: a plain tree (`to_tree`) that takes the file's place where there is none.

    Raises:
        InputError: naming the dotted path, the value and the nearest known name.
    """
    return build(cls, read_tree(path, overrides, base=base))


def read_tree(
    path: str | Path | None, overrides: Iterable[str] = (), *, base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Only what a YAML file and `section.key=value` overrides say, as nested dicts (see `load`)."""
    tree: dict[str, Any] = copy.deepcopy(dict(base or {}))
    if path is not None:
        path = Path(path)
        if not path.is_file():
            raise InputError(f"options: file {path} does not exist")
        tree = parse_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
        if not isinstance(tree, dict):
            raise InputError(f"options: {path} must hold sections with keys, got {type(tree).__name__}")
    for override in overrides:
        _set(tree, override)
    return tree


def _set(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise InputError(f"--set: must be section.key=value, got {override!r}")
    *sections, last = key.strip().split(".")
    node = tree
    for depth, section in enumerate(sections):
        child = node.get(section)
        if child is None:
            child = {}
        if not isinstance(child, dict):
            where = ".".join(sections[: depth + 1])
            raise InputError(f"--set: {where} is a value, not a section, so {key} cannot be set")
        node[section] = child
        node = child
    node[last] = parse_yaml(text, f"--set {override}") if text.strip() else ""


def build(cls: type[T], tree: Mapping[str, Any], path: str = "") -> T:
    """Build one dataclass from a mapping; `path` is the dotted prefix for errors."""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # every T is a dataclass; typing has no public bound that says so
    for key in tree:
        if key not in fields:
            raise InputError(_unknown(cls, f"{path}{key}", key, list(fields)))
    values = {
        name: _coerce(hints[name], tree[name], f"{path}{name}", field.metadata)
        for name, field in fields.items()
        if name in tree
    }
    try:
        return cls(**values)
    except InputError as error:  # a check across fields, from __post_init__
        raise InputError(f"{path}{error}") from None


def _unknown(cls: type, dotted: str, key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    prefix = dotted[: len(dotted) - len(key)]
    hint = f"did you mean {prefix}{near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"options: {dotted} is not an option; {hint}"


def _coerce(kind: Any, value: Any, path: str, limits: Mapping[str, Any]) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(args, value, path, limits)
    if origin is Literal:
        return _coerce_literal(args, value, path)
    if origin is tuple:
        return _coerce_tuple(args, value, path, limits)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise InputError(f"options: {path} must be a section with keys, got {value!r}")
        return build(typing.cast(type, kind), value, f"{path}.")
    return _coerce_scalar(kind, value, path, limits)


def _coerce_union(kinds: tuple[Any, ...], value: Any, path: str, limits: Mapping[str, Any]) -> Any:
    if value is None and type(None) in kinds:
        return None
    error: InputError | None = None
    for kind in (k for k in kinds if k is not type(None)):
        try:
            return _coerce(kind, value, path, limits)
        except InputError as caught:
            error = error or caught
    names = " or ".join("null" if k is type(None) else _name(k) for k in kinds)
    if error is not None and len([k for k in kinds if k is not type(None)]) == 1:
        raise error
    raise InputError(f"options: {path} must be {names}, got {value!r}")


def _coerce_literal(allowed: tuple[Any, ...], value: Any, path: str) -> Any:
    for choice in allowed:
        if value == choice and type(value) is type(choice):
            return value
    near = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"options: {path} must be one of {', '.join(map(str, allowed))}, got {value!r}{hint}")


def _coerce_tuple(args: tuple[Any, ...], value: Any, path: str, limits: Mapping[str, Any]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"options: {path} must be a list, got {value!r}")
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(value) != len(args):
        raise InputError(f"options: {path} must be a list of {len(args)} values, got {value!r}")
    return tuple(_coerce(arg, v, f"{path}[{i}]", limits) for i, (arg, v) in enumerate(zip(args, value, strict=True)))


def _coerce_scalar(kind: type, value: Any, path: str, limits: Mapping[str, Any]) -> Any:
    wrong = InputError(f"options: {path} must be {_name(kind)}, got {value!r}")
    if kind is bool or isinstance(value, bool):
        if not (kind is bool and isinstance(value, bool)):
            raise wrong
        return value
    if kind is str:
        if not isinstance(value, (str, int, float)):
            raise wrong
        return str(value)
    try:  # YAML 1.1 reads 2e-4 as a string
        number = kind(value) if isinstance(value, (int, float, str)) else None
    except ValueError:
        raise wrong from None
    if number is None or (kind is int and float(value) != number):
        raise wrong
    _check_range(number, path, limits)
    return number


def _check_range(number: float, path: str, limits: Mapping[str, Any]) -> None:
    if number != number:
        raise InputError(f"options: {path} must be a number, got nan")
    if "minimum" in limits and number < limits["minimum"]:
        raise InputError(f"options: {path} must be at least {limits['minimum']}, got {number}")
    if "maximum" in limits and number > limits["maximum"]:
        raise InputError(f"options: {path} must be at most {limits['maximum']}, got {number}")
    if "above" in limits and number <= limits["above"]:
        raise InputError(f"options: {path} must be above {limits['above']}, got {number}")


def _name(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin is tuple:
        return "a list"
    if origin is Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    if dataclasses.is_dataclass(kind):
        return "a section"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, str(kind))


def to_tree(options: Any) -> Any:
    """The plain lists, dicts and scalars of a dataclass: what `yaml.safe_dump` and a checkpoint store."""
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        return {field.name: to_tree(getattr(options, field.name)) for field in dataclasses.fields(options)}
    if isinstance(options, (tuple, list)):
        return [to_tree(entry) for entry in options]
    return options


def to_yaml(options: Any) -> str:
    """The options as YAML that `load` reads back to an equal object."""
    return yaml.safe_dump(to_tree(options), sort_keys=False, default_flow_style=None, width=110)


def dotted(options: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All leaves of an options tree as (`section.key`, value)."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from dotted(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value
