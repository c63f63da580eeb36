"""Prefetch: order, depth, exceptions in the caller's thread, closing."""

import threading
import time

import pytest

from semiseg_jax.training.feed import Prefetch


def _until(condition, seconds=5.0):
  end = time.monotonic() + seconds
  while not condition() and time.monotonic() < end:
    time.sleep(0.005)
  assert condition()


def _threads():
  return [t for t in threading.enumerate() if t.name == "prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_stays():
  before = len(_threads())
  yield
  _until(lambda: len(_threads()) <= before)


def test_all_items_placed_in_order():
  assert list(Prefetch(iter(range(7)), lambda x: x * 10)) == [0, 10, 20, 30, 40, 50, 60]


def test_runs_ahead_by_depth_and_no_further():
  made = []

  def source():
    for i in range(100):
      made.append(i)
      yield i

  feed = Prefetch(source(), lambda x: x, depth=3)
  _until(lambda: len(made) == 4)  # three in the queue, one at the door
  time.sleep(0.05)
  assert len(made) == 4
  assert next(feed) == 0
  _until(lambda: len(made) == 5)
  feed.close()
  assert len(made) <= 6


def test_place_runs_in_the_other_thread():
  feed = Prefetch(iter([0]), lambda x: threading.current_thread().name)
  assert list(feed) == ["prefetch"]


@pytest.mark.parametrize("where", ["source", "place"])
def test_an_exception_arrives_after_the_items_before_it(where):
  def source():
    yield 1
    yield 2
    if where == "source":
      raise KeyError("shard 3 is damaged")
    yield 3

  def place(x):
    if x == 3:
      raise KeyError("shard 3 is damaged")
    return x

  feed = Prefetch(source(), place)
  assert [next(feed), next(feed)] == [1, 2]
  with pytest.raises(KeyError, match="shard 3"):
    next(feed)
  feed.close()


def test_close_stops_the_thread_and_closes_the_source():
  closed = []

  def source():
    try:
      while True:
        yield 0
    finally:
      closed.append(True)

  feed = Prefetch(source(), lambda x: x)
  next(feed)
  feed.close()
  assert closed == [True] and not feed._thread.is_alive()


def test_close_without_a_close_of_the_source():
  feed = Prefetch(iter([1, 2, 3, 4, 5]), lambda x: x)
  feed.close()
  assert not feed._thread.is_alive()


def test_waiting_is_measured():
  def slow():
    time.sleep(0.2)
    yield 0

  feed = Prefetch(slow(), lambda x: x)
  assert feed.wait_s == 0
  next(feed)
  assert 0.1 < feed.wait_s < 2
  feed.close()


def test_the_end_and_an_error_are_raised_again():
  ended = Prefetch(iter([1]), lambda x: x)
  assert next(ended) == 1
  for _ in range(2):
    with pytest.raises(StopIteration):
      next(ended)

  def broken():
    yield 1
    raise OSError("gone")

  failing = Prefetch(broken(), lambda x: x)
  next(failing)
  for _ in range(2):
    with pytest.raises(OSError, match="gone"):
      next(failing)
