import json

import numpy as np
import pytest

from semiseg_jax.data.class_table import default_color, read_classes
from semiseg_jax.errors import DataError


def _text(tmp_path, text):
  (tmp_path / "classes.txt").write_text(text)
  return tmp_path / "classes.txt"


def _json(tmp_path, **fields):
  (tmp_path / "classes.json").write_text(json.dumps(fields))
  return tmp_path / "classes.json"


CITY = [
  {"id": 7, "name": "road", "rgb": [128, 64, 128]},
  {"id": 0, "name": "void", "rgb": [0] * 3},
  {"id": 26, "name": "car", "rgb": [0, 0, 142]},
]


def test_text(tmp_path):
  table = read_classes(_text(tmp_path, "# mine\nroad 128 64 128\n\nstreet light 1 2 3\r\n"))
  assert table.names == ("road", "street light")
  assert table.colors == ((128, 64, 128), (1, 2, 3))
  assert table.source_ids == (0, 1) and table.ignore_id == 255


def test_text_without_colors(tmp_path):
  table = read_classes(_text(tmp_path, "road\nstreet light\nclass 3\n"))
  assert table.names == ("road", "street light", "class 3") and not table.palette
  assert len(set(table.colors)) == 3 and (0, 0, 0) not in table.colors


def test_default_colors_are_distinct():
  colors = {default_color(i) for i in range(254)}
  assert len(colors) == 254 and default_color(0) == (128, 0, 0)
  assert all(0 <= v <= 255 for color in colors for v in color)


def test_ids_of_json_are_put_in_order(tmp_path):
  table = read_classes(_json(tmp_path, classes=CITY, ignore_id=0))
  assert table.names == ("road", "car") and table.source_ids == (7, 26)
  label = np.array([[7, 26], [0, 7]], np.uint8)
  for dtype in (np.uint8, np.uint16, np.int32, np.int64):
    out = table.convert(label.astype(dtype), "x")
    assert out.dtype == np.uint8 and out.tolist() == [[0, 1], [255, 0]]


def test_ignore_id_of_the_command_goes_first(tmp_path):
  city = [*CITY[:2], {"id": 26, "name": "car (ignored)"}]
  table = read_classes(_json(tmp_path, classes=city, ignore_id=0), ignore_id=26)
  assert table.names == ("road", "void") and table.ignore_id == 26
  assert table.ignored_name == "car (ignored)"
  table = read_classes(_text(tmp_path, "a 1 1 1\nb 2 2 2\nvoid 0 0 0"), ignore_id=2)
  assert table.names == ("a", "b") and table.palette[(0, 0, 0)] == 255


@pytest.mark.parametrize(
  "value,dtype",
  [
    (2, np.uint8),
    (255, np.uint8),
    (-1, np.int32),
    (-70000, np.int32),
    (65536, np.int32),
    (70000, np.int64),
    (300, np.uint16),
  ],
)
def test_unknown_ids_are_named(tmp_path, value, dtype):
  table = read_classes(_text(tmp_path, "a\nb"), ignore_id=11)
  label = np.array([[0, 1, 11], [value, value, 1]]).astype(dtype)
  with pytest.raises(DataError, match=rf"l.png: {value} \(2 pixels\) outside.*0 to 1, ignored 11"):
    table.convert(label, "l.png")


def test_colors(tmp_path):
  table = read_classes(_json(tmp_path, classes=CITY, ignore_id=0))
  label = np.array([[(0, 0, 142), (128, 64, 128)], [(0, 0, 0), (0, 0, 142)]], np.uint8)
  assert table.convert(label, "x").tolist() == [[1, 0], [255, 1]]
  label[0, 0] = (0, 0, 141)
  with pytest.raises(DataError, match=r"l.png: \(0, 0, 141\) \(1 pixels\) not among the colors"):
    table.convert(label, "l.png")


@pytest.mark.parametrize(
  "text,message",
  [
    ("", "0 classes"),
    ("a\na\n", "name a stands for two"),
    ("a 1 2 3\nb 1 2 3", "two classes"),
    ("a 1 2 3\nb", "some classes have colors"),
    ("a 1 2 300", "color"),
    ("\n".join(map(str, range(256))) + "\nlast", "256 classes"),
  ],
)
def test_bad_text(tmp_path, text, message):
  with pytest.raises(DataError, match=f"classes.txt.*{message}"):
    read_classes(_text(tmp_path, text))


@pytest.mark.parametrize(
  "fields,message",
  [
    ({}, "cannot be read"),
    ({"classes": [{"name": "a"}]}, "cannot be read"),
    ({"classes": ["a"]}, "cannot be read"),
    ({"classes": CITY, "num_classes": 2}, "num_classes 2"),
    ({"classes": CITY[:1] * 2}, "id 7 stands for two"),
    ({"classes": [{"id": -1, "name": "a"}]}, "id -1"),
  ],
)
def test_bad_json(tmp_path, fields, message):
  with pytest.raises(DataError, match=f"classes.json.*{message}"):
    read_classes(_json(tmp_path, **fields))


def test_another_file_in_its_place_is_not_printed(tmp_path):
  (tmp_path / "classes.txt").write_bytes(b"PK\xff\xfe" * 1000)
  with pytest.raises(DataError, match="classes.txt cannot be read") as error:
    read_classes(tmp_path / "classes.txt")
  assert len(str(error.value)) < 400 + len(str(tmp_path))


def test_missing_file(tmp_path):
  with pytest.raises(DataError, match="nowhere.txt cannot be read"):
    read_classes(tmp_path / "nowhere.txt")
