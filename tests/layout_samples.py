"""Real files of VOC and in Cityscapes' layout, in the folder SEMISEG_DATA_DIR/layout_samples."""

import os
import pathlib

import pytest


def layout_samples(name: str) -> pathlib.Path:
  """Returns the folder of a data set's samples; skips the test when it is absent."""
  folder = pathlib.Path(os.environ.get("SEMISEG_DATA_DIR", ""), "layout_samples", name)
  if "SEMISEG_DATA_DIR" not in os.environ or not folder.is_dir():
    pytest.skip(f"layout samples of {name} are absent; set SEMISEG_DATA_DIR to a folder with them")
  return folder
