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


TABLES = {
  "ids and colors": "id,name,r,g,b\n0,background,0,0,0\n1,street light,128,64,128\n2,car,0,0,142\n",
  "other words": "label;red;green;blue\nbackground;0;0;0\nstreet light;128;64;128\ncar;0;0;142\n",
  "hexadecimal": "name,color\nbackground,#000000\nstreet light,#804080\ncar,#00008E\n",
  "tuples": "name\trgb\nbackground\t(0, 0, 0)\nstreet light\t(128, 64, 128)\ncar\t(0, 0, 142)\n",
  "hexadecimal lines": "background #000000\nstreet light, #804080\ncar #00008e\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_with_colors(tmp_path, kind):
  table = _read(tmp_path, TABLES[kind], "c.csv")
  assert (table.names, table.source_ids, table.colors) == (NAMES, IDS, COLORS)
  assert len(table.palette) == 3


@pytest.mark.parametrize("head", ["id,name", "class_id,class_name", "name,id", "Value,Label"])
def test_tables_with_ids(tmp_path, head):
  rows = ["7,road", "9,street light"]
  if head == "name,id":
    rows = [",".join(reversed(row.split(","))) for row in rows]
  table = _read(tmp_path, "\n".join([head, *rows]), "c.csv")
  assert table.names == ("road", "street light") and table.source_ids == (7, 9)
  with pytest.raises(DataError, match="fewer columns than the heading"):
    _read(tmp_path, f"{head}\nroad", "c.csv")


YAML = {
  "Ultralytics": "train: images\nnc: 3\nnames:\n  0: background\n  1: street light\n  2: car\n",
  "Roboflow": "nc: 3\nnames: ['background', 'street light', 'car']\n",
  "a list": "- background\n- street light\n- car\n",
}


@pytest.mark.parametrize("kind", YAML)
def test_yaml(tmp_path, kind):
  table = _read(tmp_path, YAML[kind], "data.yaml")
  assert (table.names, table.source_ids, table.palette) == (NAMES, IDS, {})


@pytest.mark.parametrize(
  "text,message",
  [
    ("names: [road, no]", "False is no name of a class; put it in quotes"),
    ("names: {0: 7}", "7 is no name of a class"),
    ("names: [road", "no YAML"),
    ("train: images\n", "give a name a line"),
    ("nc: 3\nnames: [road, sky]\n", "says num_classes 3 and lists 2"),
  ],
)
def test_yaml_without_names(tmp_path, text, message):
  with pytest.raises(DataError, match=f"(?s)data.yml.*{message}"):
    _read(tmp_path, text, "data.yml")


def test_labels_of_cvat_supervisely_and_datumaro(tmp_path):
  labels = "".join(
    f"<label><name>{name}</name><color>#{bytes(color).hex()}</color></label>"
    for name, color in zip(NAMES, COLORS)
  )
  xml = f"<annotations><meta><task><labels>{labels}</labels></task></meta></annotations>"
  meta = {
    "classes": [
      {"title": name, "id": 999 - i, "shape": "polygon", "color": f"#{bytes(color).hex()}"}
      for i, (name, color) in enumerate(zip(NAMES, COLORS))
    ]
  }
  for name, content in (("a.xml", xml), ("meta.json", meta)):
    table = _read(tmp_path, content, name)
    assert (table.names, table.source_ids, table.colors) == (NAMES, IDS, COLORS)
  datumaro = {"items": [], "categories": {"label": {"labels": [{"name": n} for n in NAMES]}}}
  assert _read(tmp_path, datumaro, "d.json").names == NAMES
  for text, message in (("<a", "no XML"), ("<annotations/>", "labels")):
    with pytest.raises(DataError, match=f"a.xml.*{message}"):
      _read(tmp_path, text, "a.xml")


def test_names_that_end_in_numbers(tmp_path):
  assert _read(tmp_path, "phase 1\nphase 2\n").names == ("phase 1", "phase 2")
  with pytest.raises(DataError, match="'road 0' is no name.*write '0: road'.*'road_0'"):
    _read(tmp_path, "road 0\nsky 1\n")
