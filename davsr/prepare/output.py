"""Prepared folders that never look complete when they are not, and threads to fill them.

A folder is made under a hidden name beside its target (`.name.partial`, which no reader takes for a clip), and gets its
own name when everything in it is whole. `prepared.json` in it says how it was made: the same command goes on where an
interrupted one stopped, another one is refused.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from davsr.errors import InputError
from davsr.files import MARK, partial_name, read_json, renew, write_json
from davsr.guards.locks import locked
from davsr.guards.names import require_apart

RECORD = "prepared.json"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Output:
    """A folder in the making, or one that a run before has finished (`complete`, with the `facts` it noted).

    Use as a context manager: meanwhile no other process makes the same folder.

    Args:
        target: where it will lie; `folder` is where it is made.
        recipe: what determines its content (JSON values).
        inputs: what it is made of.

    Raises:
        InputError: when target, or what was begun for it, holds something made by another recipe, or is being made.
    """

    def __init__(self, target: str | Path, recipe: dict[str, Any], inputs: Sequence[Path] = ()) -> None:
        self.target = Path(target)
        self.folder = partial_name(self.target)
        self.inputs = list(inputs)
        self.recipe = json.loads(json.dumps(recipe))
        self.facts: dict[str, Any] = {}
        self.complete = False
        self._lock = locked(self.target)

    def __enter__(self) -> Output:
        self._lock.__enter__()
        try:
            self._open()
        except BaseException as error:
            self._lock.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.__exit__(kind, error, at)

    def _open(self) -> None:
        self.complete = self.target.exists() or self.target.is_symlink()
        if self.complete:
            if not self._is_same(self.target):
                raise InputError(f"{self.target} exists, and no `davsr prepare` made it: choose another --output")
        elif not (self.folder.exists() and self._is_same(self.folder)):
            require_apart([self.folder], self.inputs)
            renew(self.folder)  # without a record, what lies in it is of an unknown making
            self._record({})

    def finish(self, **facts: Any) -> None:
        """Add facts to the record and give the folder its name."""
        self._record(facts)
        (self.folder / MARK).unlink(missing_ok=True)
        self.folder.rename(self.target)

    def _record(self, facts: dict[str, Any]) -> None:
        write_json(self.folder / RECORD, {"recipe": self.recipe, **facts}, indent=1)

    def _is_same(self, folder: Path) -> bool:
        """Whether a record says that the folder was made, or begun, by this recipe.

        Raises:
            InputError: it was by another one.
        """
        facts = read_json(folder / RECORD)
        held = facts.pop("recipe", None) if isinstance(facts, dict) else None
        if not isinstance(held, dict):
            return False
        changed = [k for k in self.recipe.keys() | held.keys() if self.recipe.get(k) != held.get(k)]
        if changed:
            raise InputError(
                f"{folder} was made with another {' and '.join(sorted(changed))}: delete it or choose another --output"
            )
        self.facts = facts
        return True


class Workers:
    """Threads for work that is done outside of Python's lock: decoding, filtering, compressing.

    At most 2 tasks a thread wait, so that memory stays bounded. An error or Ctrl-C drops what has not begun, and leaves
    the context when what has begun is done.
    """

    def __init__(self, count: int = 0) -> None:
        self.count = count or os.cpu_count() or 1
        self._executor = ThreadPoolExecutor(self.count)
        self._pending: deque[Future[Any]] = deque()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._pending:
                self._pending.popleft().result()
        finally:
            self._executor.shutdown(cancel_futures=True)

    def submit(self, function: Callable[..., None], *args: Any) -> None:
        """Call function(*args) soon; its error, if any, is raised by a later call or at the end."""
        self._pending.append(self._executor.submit(function, *args))
        if len(self._pending) > 2 * self.count:
            self._pending.popleft().result()

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """function(item) for each item, in order."""
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(self._executor.submit(function, item))
            if len(pending) > 2 * self.count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
