"""What is damaged is told or comes back whole; `python -m tests.attack` tries more."""

import logging

import pytest

from semiseg_jax.errors import DataError
from tests import attack

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries, at files that are damaged
CASES = 4


@pytest.mark.parametrize("name", attack.KINDS)
def test_nothing_that_is_damaged_is_read_as_something_else(name, caplog):
  caplog.set_level(logging.CRITICAL)
  counts, losses = attack.attack(0, range(CASES), [name])
  assert sum(counts.values()) == CASES
  assert not losses, "\n".join(losses)


def test_what_is_read_as_something_else_is_counted(tmp_path):
  """A kind without a checksum, and one whose reader falls."""

  def write(folder):
    folder.mkdir()
    (folder / "a.txt").write_text("word")

  def fall(folder):
    if len(text := (folder / "a.txt").read_text(errors="replace")) != 4:
      raise DataError("a.txt is of another length")
    return text, 1 / ("\ufffd" not in text)

  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(attack.KINDS, "words", attack.Kind(write, fall))
    counts, losses = attack.attack(3, range(60), ["words"])
  found = {end: sum(n for (_, _, o), n in counts.items() if o == end) for end in (
    attack.HELD, attack.TOLD, attack.LOST
  )}  # fmt: skip
  assert found[attack.HELD] and found[attack.TOLD] and found[attack.LOST] == len(losses) > 0
  assert any("ZeroDivisionError" in loss for loss in losses)
  rows = attack.table(counts).splitlines()
  assert len(rows) == 2 + 1 and f"| {found[attack.LOST]} |" in rows[-1]
