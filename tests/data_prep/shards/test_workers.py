"""Parts worked through by processes: results in order, one bar, errors that end all."""

import time

import pytest

from data_prep.shards import workers


def count_up(part, progress):
  """Counts `part` pictures, the first parts slowest."""
  time.sleep(0.2 / (part + 1))
  for _ in range(part):
    progress.count()
  return part * part, progress.wrong


def tell(part, progress):
  """The first part finds something wrong, the second waits until it knows."""
  if part == 0:
    progress.set_wrong()
  limit = time.monotonic() + 30
  while not progress.wrong and time.monotonic() < limit:
    time.sleep(0.01)
  return progress.wrong


def fail_or_wait(part, progress):
  """The second part fails, the first waits until it is told to leave off."""
  if part == 1:
    raise LookupError("part 1")
  limit = time.monotonic() + 30
  while not progress.stopped and time.monotonic() < limit:
    time.sleep(0.01)


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("wrong", [False, True])
def test_results_and_bar(number, wrong):
  with workers.counter(12, "reading", start=2) as bar:
    assert workers.run(count_up, [1, 2, 3, 4], number, bar, wrong) == [
      (1, wrong),
      (4, wrong),
      (9, wrong),
      (16, wrong),
    ]
    assert bar.step == 12
    assert workers.run(count_up, [], number, bar) == []


@pytest.mark.parametrize("number", [0, 2])
def test_all_hear_of_what_is_wrong(number):
  with workers.counter(2, "reading") as bar:
    assert workers.run(tell, [0, 1], number, bar) == [True, True]


def test_an_error_in_one_ends_all():
  start = time.monotonic()
  with workers.counter(2, "reading") as bar, pytest.raises(LookupError, match="part 1"):
    workers.run(fail_or_wait, [0, 1], 2, bar)
  assert time.monotonic() - start < 20


def test_a_log_gets_a_line_now_and_then(capsys):
  with workers.counter(200, "reading") as bar:
    workers.run(count_up, [40] * 5, 0, bar)
  lines = capsys.readouterr().err
  assert "\r" not in lines
  assert [line.split()[:2] for line in lines.splitlines()] == [["reading", "200/200"]]
