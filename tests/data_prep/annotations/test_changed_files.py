"""Annotation files with small changes: drawn, or refused in plain words."""

import json

import numpy as np
import pytest

from data_prep.annotations import drawing, meaning, reading
from data_prep.annotations.options import ShapeOptions
from data_prep.sources import folder_annotations
from data_prep.sources.folder_pairs import Folders
from semiseg_jax.data.class_table import read_classes
from semiseg_jax.errors import DataError, UserError
from tests import mutations
from tests.data_prep import test_annotation_files as files
from tests.data_prep import test_folder_shapes as tools

PICTURES = ("a", "b")
OPTIONS = ShapeOptions("background", "unlabeled", "ignore", "leave", line_width=1.0)


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
  """Of each kind a file of pictures of 8 x 5."""
  root = tmp_path_factory.mktemp("tools")
  for write in (tools._labelme, tools._supervisely, tools._datumaro, tools._yolo):
    write(root)
  found = {
    name: json.loads((root / f"labels/{name}").read_text())
    for name in ("a.json", "b.json", "ann/a.png.json", "default.json")
  }
  found |= {"coco.json": tools.coco(), "cvat.xml": tools.CVAT, "via.json": files.via()}
  return found | {"a.xml": files.labelme_xml("a"), "a.txt": (root / "labels/a.txt").read_text()}


KINDS = ("a.json", "b.json", "ann/a.png.json", "default.json", "coco.json", "cvat.xml", "via.json")
KINDS += ("a.xml", "a.txt")


def _labels(file, table):
  """The labels that a folder of this file becomes."""
  wrong, quiet = [], [].append
  where = Folders(str(file.parent / "photos"), str(file.parent))
  found = reading.read_folder([file], wrong)
  if found is None:
    reading.refuse_others([file], where.labels)
    raise AssertionError("a file that is neither read nor refused")
  rules = meaning.make_rules(found, table, OPTIONS, wrong, quiet)
  labeled = meaning.split_empty(found.pictures, OPTIONS, wrong, quiet)
  pictures = {name: file.parent / f"photos/{name}.png" for name in PICTURES}
  folder_annotations.split_lists(found, pictures, where)
  paired = folder_annotations.pair(labeled, pictures, where, OPTIONS, wrong, quiet)
  labels = [drawing.draw_or_blank(each, (5, 8), rules) for each in paired.values()]
  if wrong:
    raise DataError(f"{file}: {' '.join(wrong)}")
  return labels


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_drawn_or_refused(tmp_path, contents, kind):
  (tmp_path / "classes.txt").write_text(tools.CLASSES)
  table = read_classes(tmp_path / "classes.txt")
  file = tmp_path / kind.replace("/", "_")
  content, drawn = contents[kind], 0
  change = mutations.of_fields if file.suffix == ".json" else mutations.of_lines
  change = mutations.of_xml if file.suffix == ".xml" else change
  for seed in range(30):
    file.write_text(change(content, mutations.seeded(f"{kind} {seed}")))
    try:
      labels = _labels(file, table)
    except UserError as error:
      mutations.check_message(str(error), str(file.name))
      continue
    drawn += 1
    for label in labels:
      assert label.dtype == np.uint8 and label.ndim == 2
      assert label.shape != (5, 8) or set(np.unique(label)) <= {0, 1, 2, 255}
  assert 0 < drawn < 30
