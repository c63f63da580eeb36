"""How long an exported file can be read, as it says itself.

jax promises that what `jax.export` writes is read by versions of jax of the next six months.  The
version that wrote it reads it for ever.
"""

import datetime
import os
from collections.abc import Mapping
from typing import Any

import jax

from semiseg_jax.errors import WeightsError

_DAYS = 182


def of(day: datetime.date) -> dict[str, Any]:
  """Returns what a file of that day says: until when, for which version, in words."""
  until = (day + datetime.timedelta(_DAYS)).isoformat()
  return {
    "until": until,
    "jax": jax.__version__,
    "text": (
      f"jax promises that versions released until {until}, six months after this was written with "
      f"jax {jax.__version__}, read it; jax {jax.__version__} itself always does."
    ),
  }


def check(path: str | os.PathLike[str], about: Mapping[str, Any]) -> None:
  """Raises WeightsError where the promise has ended and another version of jax is at work."""
  until, version = about["promise"]["until"], about["promise"]["jax"]
  if datetime.date.today().isoformat() > until and jax.__version__ != version:
    raise WeightsError(
      f"{path} was written with jax {version}, whose promise that later versions read it ended on "
      f"{until}, and this is jax {jax.__version__}; {mend(about)}"
    )


def mend(about: Mapping[str, Any]) -> str:
  """Returns what to do about a file that this version of jax does not read."""
  return f"make it anew: {about['command']}; or use it with jax=={about['promise']['jax']}."
