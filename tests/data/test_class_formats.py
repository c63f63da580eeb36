"""Classes files as tools write them."""

import json

import numpy as np
import pytest

from semiseg_jax.data.class_table import read_classes
from semiseg_jax.errors import DataError

NAMES, IDS = ("background", "street light", "car"), (0, 1, 2)
COLORS = ((0, 0, 0), (128, 64, 128), (0, 0, 142))


def _read(tmp_path, content, name="classes.txt"):
  (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
  return read_classes(tmp_path / name)


TEXTS = {
  "CVAT": "# label:color_rgb:parts:actions\nbackground:0,0,0::\nstreet light:128,64,128::\n"
  "car:0,0,142::\n",
  "class_dict.csv": "name,r,g,b\nbackground,0,0,0\nstreet light,128,64,128\ncar,0,0,142\n",
  "a heading with blanks": "name, r, g, b\nbackground, 0, 0, 0\nstreet light, 128, 64, 128\n"
  "car, 0, 0, 142",
  "rows": "background,0,0,0\nstreet light, 128, 64, 128\ncar,0,0,142\n",
  "ids": "0 background 0 0 0\n1 street light 128 64 128\n2\tcar 0 0 142\n",
  "blanks": "background 0 0 0\nstreet light 128 64 128\ncar 0 0 142\n",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_names_and_colors(tmp_path, kind):
  table = _read(tmp_path, TEXTS[kind])
  assert (table.names, table.source_ids, table.colors) == (NAMES, IDS, COLORS)
  assert len(table.palette) == 3


NAMED = {
  "YOLO": "0: background\n1: street light\n2: car\n",
  "blanks": "0 background\n1 street light\n2 car\n",
  "numbers": "0, background\n1, street light\n2, car",
  "Roboflow": "Pixel Value, Class\n0, background\n1, street light\n2, car\n",
  "a name a line": "background\nstreet light\ncar\n",
  "id2label": {"id2label": {"0": "background", "1": "street light", "2": "car"}},
  "id2label alone": {"0": "background", "1": "street light", "2": "car"},
  "a list": list(NAMES),
  "detectron2": {"stuff_classes": list(NAMES)},
  "COCO": {"images": [], "categories": [{"id": i, "name": n} for i, n in zip(IDS, NAMES)]},
}


@pytest.mark.parametrize("kind", NAMED)
def test_names(tmp_path, kind):
  content = NAMED[kind]
  table = _read(tmp_path, content, "c.txt" if isinstance(content, str) else "c.json")
  assert (table.names, table.source_ids, table.palette) == (NAMES, IDS, {})
  assert table.counted == (kind == "a name a line")


def test_ids_of_numbered_lines_and_of_coco_are_kept(tmp_path):
  table = _read(tmp_path, "7: road\n26: car\n")
  assert table.source_ids == (7, 26)
  coco = {"categories": [{"id": 3, "name": "cat", "supercategory": "x", "color": [1, 2, 3]}]}
  table = _read(tmp_path, coco, "c.json")
  assert table.source_ids == (3,) and table.palette == {(1, 2, 3): 0}


def test_labelme_counts_from_its_second_line(tmp_path):
  table = _read(tmp_path, "__ignore__\n_background_\ncar\nbus\n")
  assert table.names == ("_background_", "car", "bus") and table.source_ids == (0, 1, 2)
  label = np.array([[0, 1, 2, 255]], np.uint8)
  assert table.convert(label, "x").tolist() == [[0, 1, 2, 255]]


@pytest.mark.parametrize(
  "text",
  [
    "names:\n  - road\n",
    '{"classes": []}',
    "<html>\nroad",
    "road\n128 64 128\n",
    "road;1;2;3\n",
    "road:1:2\n",
    "train = road = x",
    "road: 0\nsky: 1",
  ],
)
def test_what_is_no_name_is_refused(tmp_path, text):
  with pytest.raises(DataError, match="is no name of a class.*give a name a line.*CVAT.*id2label"):
    _read(tmp_path, text)


@pytest.mark.parametrize(
  "name",
  [
    "T-shirt",
    "rider/cyclist",
    "don't know",
    "car (parked)",
    "Straße",
    "wall & fence",
    "C3",
    "door, double door, gate",
  ],
)
def test_names_of_any_kind(tmp_path, name):
  assert _read(tmp_path, f"road\n{name}\n").names == ("road", name)


@pytest.mark.parametrize("content", [{}, {"a": "b"}, [1, 2], {"categories": 3}, 5])
def test_json_without_classes(tmp_path, content):
  with pytest.raises(DataError, match="c.json"):
    _read(tmp_path, content, "c.json")
