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
  with pytest.raises(DataError, match=r"l.png: \(0, 0, 141\) \(1 pixel\) not among the colors"):
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
    ({"classes": [{"name": "a"}, {"name": "b", "id": 0}]}, "class 'a' has no id, as others have"),
    ({"classes": [3]}, "cannot be read"),
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


def test_text_that_counts_from_one(tmp_path):
  file = _text(tmp_path, "a\nb\n")
  table = read_classes(file, first_id=1)
  assert table.source_ids == (1, 2) and not table.counted
  assert read_classes(file).counted and not read_classes(file, first_id=0).counted
  with pytest.raises(DataError, match="--first_id 1 is for names a line"):
    read_classes(_json(tmp_path, classes=CITY, ignore_id=0), first_id=1)


@pytest.mark.parametrize(
  "classes,label,message",
  [
    ("a\nb\n", [[1, 2]], r"2 \(1 pixel\) outside.*counts classes from 1, give --first_id 1;"),
    ("a\nb\n", [[0, 1, 2]], "give --first_id 1 --ignore_id 0"),
    ("a\nb\nc\n", [[10, 20, 30]], "give --label_values 10 20 30"),
    ("a\nb\n", [[0, 128, 255]], "give --label_values 0 128;"),
    ("a\nb\n", [list(range(256))], "a resize that blends or a lossy file"),
  ],
)
def test_unknown_ids_propose_what_would_mend_them(tmp_path, classes, label, message):
  with pytest.raises(DataError, match=f"l.png: .*{message}"):
    read_classes(_text(tmp_path, classes)).convert(np.array(label, np.uint8), "l.png")


def test_values_of_classes(tmp_path):
  table = read_classes(_text(tmp_path, "road\ncrack\n"), values=(0, 255))
  assert table.names == ("road", "crack") and table.ignore_id is None
  assert table.convert(np.array([[0, 255]], np.uint8), "x").tolist() == [[0, 1]]
  with pytest.raises(DataError, match=r"7 \(1 pixel\) outside.*ignored None"):
    table.convert(np.array([[0, 7]], np.uint8), "x")
  table = read_classes(_json(tmp_path, classes=CITY), values=(30, 10, 20))
  label = np.array([[10, 20, 30, 255]], np.int64)
  assert table.convert(label, "x").tolist() == [[1, 2, 0, 255]]
  table = read_classes(_json(tmp_path, classes=CITY), 10, values=(30, 10, 20))
  assert table.names == ("road", "car") and table.ignored_name == "void"
  assert table.convert(label[:, :3], "x").tolist() == [[255, 1, 0]]


@pytest.mark.parametrize(
  "values,message",
  [
    ((0,), "--label_values 0: 1 value for 2 classes .*road, crack"),
    ((0, 1, 2), "3 values for 2 classes"),
    ((5, 5), "^--label_values 5 5: .* of its own from 0 to 65535 .road, crack"),
    ((0, -3), "^--label_values 0 -3: .* of its own from 0 to 65535"),
  ],
)
def test_values_that_are_not_those_of_the_classes(tmp_path, values, message):
  with pytest.raises(DataError, match=message):
    read_classes(_text(tmp_path, "road\ncrack\n"), values=values)


@pytest.mark.parametrize(
  "label,mend",
  [
    ([[-1, 0, 1]], "if pixels of -1 have no class, give --ignore_id -1"),
    ([[-1, 1]], "if pixels of -1 have no class, give --ignore_id -1"),
    ([[-2, -1, 0]], "save the labels with ids from 0 to 65535 .one negative id may be"),
    ([[-1, 0, 7]], "save the labels with ids from 0 to 65535"),
  ],
)
def test_the_mend_of_negative_ids_is_one_that_is_taken(tmp_path, label, mend):
  file = _text(tmp_path, "road\ncrack\n")
  with pytest.raises(DataError, match=mend) as caught:
    read_classes(file).convert(np.array(label), "x")
  if "--ignore_id -1" in str(caught.value):
    read_classes(file, -1).convert(np.array(label), "x")


@pytest.mark.parametrize("ignored", [-1, -100, 70000])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_ignored_ids_that_no_class_can_have(tmp_path, ignored, dtype):
  if np.iinfo(dtype).max < ignored:
    return
  label = np.array([[0, 1, ignored]], dtype)
  table = read_classes(_text(tmp_path, "a\nb"), ignored)
  assert table.convert(label, "x").tolist() == [[0, 1, 255]]
  table = read_classes(_json(tmp_path, classes=CITY[1:2], ignore_id=ignored))
  assert table.convert(label[:, ::2], "x").tolist() == [[0, 255]]


@pytest.mark.parametrize(
  "entry,ignore_id,ignored",
  [
    ({"id": 255, "name": "building"}, None, None),
    ({"id": 3, "name": "building"}, 3, None),
    ({"id": 255, "name": "Void"}, None, 255),
    ({"id": 255, "name": "Don't care"}, None, 255),
    ({"id": 3, "name": "building (ignored)"}, 3, 3),
    ({"id": 3, "name": "building", "ignored": True}, None, 3),
    ({"id": -1, "name": "building", "ignored": True}, None, -1),
    ({"id": 3, "name": "unlabeled"}, None, 255),
  ],
)
def test_no_class_vanishes_as_ignored(tmp_path, entry, ignore_id, ignored):
  file = _json(tmp_path, classes=[*CITY, {"rgb": [1, 2, 3]} | entry], ignore_id=ignore_id)
  if ignored is None:
    message = rf"class 'building' has the id {entry['id']} of ignored.*'building \(ignored\)'"
    with pytest.raises(DataError, match=message):
      read_classes(file)
    return
  table = read_classes(file)
  assert table.ignore_id == ignored
  assert (entry["name"] in table.names) == (entry["id"] != ignored)


def test_two_ignored_classes(tmp_path):
  classes = [
    CITY[0],
    *({"rgb": [i] * 3, "id": i, "name": f"n{i}", "ignored": True} for i in (8, 9)),
  ]
  with pytest.raises(DataError, match="'n9' is marked as ignored, but its id 9 .* not .* 8"):
    read_classes(_json(tmp_path, classes=classes))


@pytest.mark.parametrize(
  "palette,message",
  [
    ([[0, 0, 0], [9, 9, 9], [128, 0, 0]], None),  # index 1 is not used
    (
      [[0, 0, 0], [128, 0, 0], [0, 128, 0]],
      r"index 2 the color \(0, 128, 0\).*'cat'",
    ),
    ([[1, 0, 0]], r"index 0 the color \(1, 0, 0\).*id 0 is 'ground', \(0, 0, 0\)"),
  ],
)
def test_palettes_against_the_colors_of_the_classes(tmp_path, palette, message):
  table = read_classes(_text(tmp_path, "ground 0 0 0\ndog 0 128 0\ncat 128 0 0\n"))
  check = lambda: table.check_palette(np.array([[0, 2]]), np.array(palette, np.uint8), "l.png")
  if message is None:
    check()
  else:
    with pytest.raises(DataError, match=f"l.png: .*{message}.*--label_colors"):
      check()


def test_a_palette_shows_a_class_where_the_ids_say_none(tmp_path):
  """The color of ignored pixels does not matter, unless it is that of a class."""
  table = read_classes(_text(tmp_path, "ground 0 0 0\ndog 0 128 0\nvoid 9 9 9\n"), ignore_id=2)
  for color, is_wrong in (((9, 9, 9), False), ((7, 7, 7), False), ((0, 128, 0), True)):
    palette = np.array([[0, 0, 0], [0, 128, 0], color], np.uint8)
    if is_wrong:
      with pytest.raises(DataError, match="id 2 is no class"):
        table.check_palette(np.array([[0, 2]]), palette, "l.png")
    else:
      table.check_palette(np.array([[0, 2]]), palette, "l.png")


@pytest.mark.parametrize(
  "text,expected",
  [
    ("a\nb", True),
    ("a 0 0 0\nb 200 0 0", True),
    ("a 1 1 1\nb 2 2 2", False),
    ("a 0 0 0\nb 255 255 255", False),
    ("b 200 0 0\na 0 0 0", False),
  ],
)
def test_whether_grays_are_ids(tmp_path, text, expected):
  assert read_classes(_text(tmp_path, text)).are_grays_ids == expected


@pytest.mark.parametrize(
  "name, text, said",
  [
    ("c.json", '{"road": 0, "car": 1, "road": 2}', "'road' stands twice"),
    ("c.json", '{"classes": [{"name": "road", "id": 1, "id": 2}]}', "'id' stands twice"),
    ("c.yaml", "names:\n  0: road\n  0: car\n", "'0' stands twice"),
    ("c.json", '["\\ud800", "car"]', "is no name of a class"),
    ("c.json", '["road\\u0085", "car\\u009b"]', "is no name of a class"),
  ],
)
def test_keys_that_stand_twice_and_names_that_are_no_text(tmp_path, name, text, said):
  (tmp_path / name).write_text(text)
  with pytest.raises(DataError, match=said):
    read_classes(tmp_path / name)
