"""Descriptions, plain JSON values, that carry a checksum over all that they say.

    {"classes": ["road", "sky"], "channels": 3, "seal": "9f2c..."}

The seal is the SHA-256 of the description's canonical form: the JSON of everything beside the seal,
keys sorted, without spaces, in ASCII.  So it does not depend on how a file is laid out, and a bit
that is flipped in a name, a number or a text is found.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "seal"  # the key
OTHER = "its seal is not that of what it says: it was edited, or is damaged"
NONE = "it has lost its seal: it was edited, or is damaged"


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields as JSON gives them back, with their seal; an older one is replaced."""
  plain = json.loads(json.dumps(fields))
  plain.pop(SEAL, None)
  return {**plain, SEAL: digest(plain)}


def digest(fields: Mapping[str, Any]) -> str:
  """Returns the SHA-256 of the canonical form in hexadecimal; a seal among the fields is left out.

  Args:
    fields: as JSON gives them back.
  """
  rest = {name: value for name, value in fields.items() if name != SEAL}
  text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode("ascii")).hexdigest()


def problem(fields: Mapping[str, Any], *, required: bool = False) -> str:
  """Returns what is wrong with the seal of a description as it was read, "" where nothing is.

  Args:
    fields: as JSON gives them back.
    required: whether one without a seal is wrong; earlier versions wrote none.
  """
  if SEAL not in fields:
    return NONE if required else ""
  return "" if fields[SEAL] == digest(fields) else OTHER
