"""What `pip install .` requires, read from requirements.txt: a hook of hatchling."""

import pathlib
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

TOOLS = "# Tests and style"


class Requirements(MetadataHookInterface):
  """The lines above TOOLS are dependencies, those below it the extra `test`."""

  def update(self, metadata: dict[str, Any]) -> None:
    """Fills the two dynamic fields of [project]."""
    text = (pathlib.Path(self.root) / "requirements.txt").read_text()
    if text.count(TOOLS) != 1:
      raise ValueError(f"requirements.txt must have one line {TOOLS!r}: what follows is for tests.")
    needed, tools = (_lines(part) for part in text.split(TOOLS))
    metadata["dependencies"] = needed
    metadata["optional-dependencies"] = {"test": tools, **self.config["extras"]}


def _lines(text: str) -> list[str]:
  lines = (line.split("#")[0].strip() for line in text.splitlines())
  return [line for line in lines if line]
