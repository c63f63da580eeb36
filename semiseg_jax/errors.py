"""What a user can mend: one base, and its kinds.

A command catches `UserError` and prints its message, which says what is wrong, where, and how to
mend it.  Whatever else is raised is a bug of this program and keeps its traceback.
"""

from collections.abc import Sequence

SHOWN = 20  # problems that a message lists


class UserError(Exception):
  """Base of everything that the person at the keyboard can mend."""

  @classmethod
  def of_all(cls, headline: str, problems: Sequence[str]) -> "UserError":
    """One error of many problems, of which the first `SHOWN` are listed, one a line."""
    lines = [headline, *problems[:SHOWN]]
    if len(problems) > SHOWN:
      lines.append(f"... and {len(problems) - SHOWN} more")
    return cls("\n".join(lines))


class ConfigError(UserError):
  """A config, or an option of a command, that cannot run."""


class DataError(UserError):
  """Pictures, labels, lists or shards that cannot be used."""


class WeightsError(UserError):
  """A weight file that cannot be used: unreadable, of another network, or in want of a package."""


class CheckpointError(UserError):
  """A checkpoint that cannot be used or written."""


class NonFiniteError(UserError):
  """A loss, a gradient or the state is not finite; the last good checkpoint is kept."""
