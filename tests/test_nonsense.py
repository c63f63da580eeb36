"""No command answers nonsense with a traceback; `python -m tests.nonsense` tries more of it."""

import pytest

from tests import nonsense

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries, at files that are damaged


def test_every_command_answers_nonsense_with_a_message():
  tried, fallen = nonsense.run(11, range(2 * len(nonsense.COMMANDS)), list(nonsense.COMMANDS))
  print(f"{sum(tried.values())} cases")
  assert set(tried) == set(nonsense.COMMANDS)
  assert not fallen, "\n\n".join(fallen)
