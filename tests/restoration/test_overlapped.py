"""Stages in threads: the order, what a failure in each of them leaves, and that memory between them is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from davsr.restoration.overlapped import Behind, ahead

PATIENCE = 60  # seconds after which a test that would hang fails


class StageError(Exception):
    pass


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("davsr-")]


def one_byte(_: object) -> int:
    return 1


@pytest.mark.parametrize("room", [0, 1, 3, 1000])
def test_items_and_calls_keep_their_order(room):
    done: list[int] = []
    with closing(ahead(range(100), room, one_byte)) as items, Behind(room) as behind:
        for item in items:
            behind.do(lambda item=item: done.append(item), 1)
    assert done == list(range(100))


def test_a_reader_runs_ahead_as_far_as_there_is_room_and_no_farther():
    begun, filled = [], threading.Event()

    def source() -> Iterator[int]:
        for item in range(100):
            begun.append(item)
            if item == 3:  # two lie in the channel, one waits for room, this is the next: it cannot be asked for
                filled.set()
            yield item

    with closing(ahead(source(), 2, one_byte)) as items:
        assert next(items) == 0
        # 0 still counts, 1 lies beside it, 2 waits for room.
        assert not filled.is_set()
        assert next(items) == 1 and next(items) == 2
        assert filled.wait(PATIENCE)
        assert max(begun) <= 4
    assert max(begun) <= 5


def test_what_is_larger_than_the_room_passes_alone():
    with closing(ahead([10, 10, 10], 1, lambda size: size)) as items:
        assert list(items) == [10, 10, 10]


def test_a_reader_that_fails_does_so_after_what_it_had_read():
    def source() -> Iterator[int]:
        yield from range(3)
        raise StageError("damaged")

    read = []
    with pytest.raises(StageError, match="damaged"), closing(ahead(source(), 100, one_byte)) as items:
        for item in items:
            read.append(item)
    assert read == [0, 1, 2]


def test_a_loop_that_is_left_early_ends_its_reader():
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.set()

    with closing(ahead(source(), 2, one_byte)) as items:
        assert next(items) == 0
    assert closed.is_set()


def test_a_writer_that_fails_stops_the_work_and_nothing_after_it_is_done():
    done: list[int] = []

    def fail() -> None:
        raise StageError("disk full")

    with pytest.raises(StageError, match="disk full"), Behind(1) as behind:
        behind.do(lambda: done.append(0), 1)
        behind.do(fail, 1)
        for _ in range(1000):  # it is told while the work goes on, not at its end
            behind.do(lambda: done.append(1), 1)
        pytest.fail("the work went on")
    assert done == [0]


def test_a_failure_in_the_last_call_is_told_at_the_end():
    def fail() -> None:
        raise StageError("disk full")

    with pytest.raises(StageError, match="disk full"), Behind(100) as behind:
        behind.do(fail, 1)


@pytest.mark.parametrize("error", [StageError, KeyboardInterrupt])
def test_where_the_work_fails_what_was_handed_over_is_still_done(error):
    done: list[int] = []
    held = threading.Event()
    with pytest.raises(error), Behind(100) as behind:
        behind.do(lambda: None if held.wait(PATIENCE) else pytest.fail("never"), 1)
        for item in range(5):
            behind.do(lambda item=item: done.append(item), 1)
        held.set()
        raise error
    assert done == list(range(5))


def test_memory_that_waits_to_be_written_is_bounded():
    held, handed = threading.Event(), []

    def hand_over(behind: Behind) -> None:
        for item in range(10):
            behind.do(lambda: None if held.wait(PATIENCE) else pytest.fail("never"), 1)
            handed.append(item)

    with Behind(3) as behind:
        worker = threading.Thread(target=hand_over, args=(behind,))
        worker.start()
        try:
            worker.join(0.2)  # more time would not let more through
            assert len(handed) <= 3
        finally:
            held.set()
        worker.join(PATIENCE)
        assert len(handed) == 10


def test_waiting_is_until_all_is_done():
    done: list[int] = []
    with Behind(100) as behind:
        for item in range(20):
            behind.do(lambda item=item: done.append(item), 1)
        behind.wait()
        assert len(done) == 20
