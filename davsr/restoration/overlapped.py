"""Stages that overlap: reading runs ahead of the network, and writing behind it, each in a thread of its own.

What is between two stages is bounded in bytes. What a stage raises appears where its work was asked for, and no thread
outlives the block or the loop that started it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """Items on their way from one thread to another, first in, first out.

    Args:
        room: bytes that may lie in it; a single item may be larger.
    """

    def __init__(self, room: float) -> None:
        self.room = room
        self.error: BaseException | None = None  # what ended the sender
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._ended = self._refused = False
        self._changed = threading.Condition()

    def send(self, item: T, size: int = 0) -> bool:
        """Wait for room and put an item of `size` bytes in; False where nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._refused or not self._items or self._bytes + size <= self.room)
            if not self._refused:
                self._items.append((item, size))
                self._bytes += size
                self._changed.notify_all()
            return not self._refused

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes."""
        with self._changed:
            self._ended, self.error = True, error
            self._changed.notify_all()

    def refuse(self) -> None:
        """Nothing more is taken; what lies in it is dropped."""
        with self._changed:
            self._refused, self._bytes = True, 0
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """The items until the end. An item counts as taken away when the next one is asked for."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._refused)
                if not self._items:
                    return
                item, size = self._items[0]
            yield item
            del item
            with self._changed:
                if self._items:  # else they were refused meanwhile
                    self._items.popleft()
                    self._bytes -= size
                self._changed.notify_all()

    def wait_until_empty(self) -> None:
        """Wait until all is taken away, or nothing is taken any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._refused or not self._items)


def ahead(items: Iterable[T], room: float, size: Callable[[T], int]) -> Generator[T, None, None]:
    """The items in their order, produced by a thread that runs ahead by at most `room` bytes and at least one item.

    Where the loop over them is left early, the thread ends after the item that it is at.
    """
    channel: Channel[T] = Channel(room)

    def produce() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not channel.send(item, size(item)):
                    break
        except BaseException as raised:  # whatever it is, it is raised again by the reader
            error = raised
        finally:
            if isinstance(items, Generator):
                items.close()
            channel.end(error)

    thread = threading.Thread(target=produce, name="davsr-ahead", daemon=True)
    thread.start()
    try:
        yield from channel
        if channel.error is not None:
            raise channel.error
    finally:
        channel.refuse()
        thread.join()


class Behind:
    """Calls done by a thread, one after the other, while the block goes on; the block ends when all are done.

    Where the block raises, what was handed over is still done first: what a run that is stopped leaves does not hang on
    how far its thread was. What a call raises is raised by the next `do` or `wait`, or at the end; later calls are
    dropped.

    Args:
        room: bytes of what waits.
    """

    def __init__(self, room: float) -> None:
        self._channel: Channel[Callable[[], None]] = Channel(room)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="davsr-behind", daemon=True)

    def _work(self) -> None:
        for call in self._channel:
            try:
                call()
            except BaseException as raised:  # whatever it is, it is raised again by who handed the call over
                self._error = raised
                self._channel.refuse()

    def do(self, call: Callable[[], None], size: int = 0) -> None:
        """Hand a call over that holds `size` bytes; waits for room."""
        self._channel.send(call, size)
        self._raise()

    def wait(self) -> None:
        """Until all that was handed over is done."""
        self._channel.wait_until_empty()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Behind:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._channel.wait_until_empty()
        finally:  # also where a second interrupt ends the waiting
            self._channel.refuse()
            self._thread.join()
        if error is None:
            self._raise()
