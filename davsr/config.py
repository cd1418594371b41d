"""YAML to frozen dataclasses: every key known, every value of its field's type, every error with its dotted path."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from davsr.errors import InputError
from davsr.guards.limits import require_below
from davsr.settings import presets
from davsr.settings.yaml_text import parse_yaml, shown

T = TypeVar("T")
_LARGEST_COUNT, _LARGEST = 2**31 - 1, 1e12  # of whole numbers and of others, where an option states no maximum
_LONGEST_KEY = 80  # characters of an unknown key that are looked at and shown


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
        path = presets.option_file(path)
        tree = parse_yaml(_text(path), str(path)) or {}
        if not isinstance(tree, dict):
            raise InputError(f"options: {path} must hold sections with keys, got {type(tree).__name__}")
    for override in overrides:
        _set(tree, override)
    return presets.with_assets(tree)


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise InputError(f"options: file {path} does not exist")
        require_below("OPTION_BYTES", path.stat().st_size, f"options: {path} has")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"options: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"options: {path} must be UTF-8, byte {error.start} is not") from None


def _set(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise InputError(f"--set: must be section.key=value, got {shown(override)}")
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
    if not isinstance(tree, Mapping):
        raise InputError(f"options: {path.rstrip('.')} must be a section with keys, got {shown(tree)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if "internal" not in field.metadata}  # type: ignore[arg-type]  # every T is a dataclass; typing has no public bound that says so
    for key in tree:
        if not isinstance(key, str):
            raise InputError(f"options: keys must be names, got {shown(key)} in {path or 'the options'}")
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
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5) if len(key) <= _LONGEST_KEY else []
    prefix = dotted[: len(dotted) - len(key)]
    dotted = prefix + (key if len(key) <= _LONGEST_KEY else f"{key[:_LONGEST_KEY]}...")
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
        return build(typing.cast(type, kind), value, f"{path}.")
    return _coerce_scalar(kind, value, path, limits)


def _coerce_union(kinds: tuple[Any, ...], value: Any, path: str, limits: Mapping[str, Any]) -> Any:
    others = [kind for kind in kinds if kind is not type(None)]
    if value is None and len(others) < len(kinds):
        return None
    if value == "" and others == [str]:  # a file, whose absence has a word of its own
        raise InputError(f"options: {path} must not be empty; null leaves it out")
    if len(others) == 1:
        return _coerce(others[0], value, path, limits)
    for kind in others:
        with contextlib.suppress(InputError):
            return _coerce(kind, value, path, limits)
    raise InputError(f"options: {path} must be {' or '.join(map(_name, kinds))}, got {shown(value)}")


def _coerce_literal(allowed: tuple[Any, ...], value: Any, path: str) -> Any:
    for choice in allowed:
        if type(value) is type(choice) and value == choice:
            return value
    near = difflib.get_close_matches(shown(value).strip("'\""), [str(a) for a in allowed], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"options: {path} must be one of {', '.join(map(str, allowed))}, got {shown(value)}{hint}")


def _coerce_tuple(args: tuple[Any, ...], value: Any, path: str, limits: Mapping[str, Any]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"options: {path} must be a list, got {shown(value)}")
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(value) != len(args):
        raise InputError(f"options: {path} must be a list of {len(args)} values, got {shown(value)}")
    return tuple(_coerce(arg, v, f"{path}[{i}]", limits) for i, (arg, v) in enumerate(zip(args, value, strict=True)))


def _coerce_scalar(kind: type, value: Any, path: str, limits: Mapping[str, Any]) -> Any:
    converted: Any = None
    if kind is bool or isinstance(value, bool):
        converted = value if kind is bool and isinstance(value, bool) else None
    elif kind is str:
        converted = str(value) if isinstance(value, (str, int, float)) else None
    elif isinstance(value, (int, float, str)):
        converted = _number(kind, value)
    if converted is None:
        raise InputError(f"options: {path} must be {_name(kind)}, got {shown(value)}")
    if kind in (int, float):
        _check_range(converted, path, limits)
    return converted


def _number(kind: type, value: float | str) -> Any:
    try:  # YAML 1.1 reads 2e-4 as a string
        number = kind(value)
        return number if kind is float or float(value) == number else None
    except (ValueError, OverflowError):
        return None


def _check_range(number: float, path: str, limits: Mapping[str, Any]) -> None:
    if not math.isfinite(number):
        raise InputError(f"options: {path} must be a number, got {number}")
    # Beyond these nothing is meant, and sizes and products of them would not be numbers any more.
    most = limits.get("maximum", _LARGEST_COUNT if isinstance(number, int) else _LARGEST)
    if "minimum" in limits and number < limits["minimum"]:
        raise InputError(f"options: {path} must be at least {limits['minimum']}, got {shown(number)}")
    if number > most:
        raise InputError(f"options: {path} must be at most {most}, got {shown(number)}")
    if number < -most:
        raise InputError(f"options: {path} must be at least {-most}, got {shown(number)}")
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
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", types.NoneType: "null"}
    return names.get(kind, str(kind))


def to_tree(options: Any) -> Any:
    """The plain lists, dicts and scalars of a dataclass: what `yaml.safe_dump` and a checkpoint store."""
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        fields = [field.name for field in dataclasses.fields(options) if "internal" not in field.metadata]
        return {name: to_tree(getattr(options, name)) for name in fields}
    if isinstance(options, (tuple, list)):
        return [to_tree(entry) for entry in options]
    return options


def to_yaml(options: Any) -> str:
    """The options as YAML that `load` reads back to an equal object."""
    return yaml.safe_dump(to_tree(options), sort_keys=False, default_flow_style=None, width=110)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all values in nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def stated_tree(options: Any) -> dict[str, Any]:
    """What is stated of options, as a plain tree: the names in `options.stated`, and all that is no default."""
    return _stated(to_tree(options), to_tree(type(options)()), frozenset(options.stated), "")


def _stated(tree: Any, defaults: Any, names: frozenset[str], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if part := _stated(value, defaults[key], names, f"{dotted}."):
                found[key] = part
        elif dotted in names or value != defaults[key]:
            found[key] = value
    return found


def overlaid(base: T, tree: Mapping[str, Any], path: str) -> T:
    """A dataclass with the values of a plain tree laid over its own; `path` is the dotted prefix for errors."""
    return build(type(base), _merged(to_tree(base), tree), path)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged
