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
    "{classes: []",
    "<html>\nroad",
    "road\n128 64 128\n",
    "road;1;2\n",
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


@pytest.mark.parametrize(
  "head", ["id,name", "class_id,class_name", "name,id", "Value,Label", "class_idx,class_name"]
)
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


# Each line stands for ten times the one before.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
  f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


def test_plain_aliases_are_read(tmp_path):
  assert _read(tmp_path, "a: &a road\nnames: &b [*a, sky]\nc: *b", "a.yaml").names == (
    "road",
    "sky",
  )


@pytest.mark.parametrize(
  "text,message",
  [
    ("names: [road, no]", "False is no name of a class; put it in quotes"),
    ("names: {0: 7}", "7 is no name of a class"),
    ("names: [road", "no YAML"),
    ("names: [!!int '']", "no YAML"),
    ("names: [!!bool foo]", "no YAML"),
    ("names: [!!timestamp foo]", "no YAML"),
    ("names: [!!float '']", "no YAML"),
    ("names: !!map [a]", "no YAML"),
    (BOMB + "names: *a9", "aliases stand for more than 100,000 values, from line 5 on"),
    (BOMB + "b: {<<: *a9}", "aliases stand for more than"),
    ("names: &a [*a]", "alias .a in line 1 stands for what it stands in"),
    ("names: [*a]", "no YAML from line 1"),
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


UNUSUAL = {
  "colors first": "0 0 0 background\n128 64 128\tstreet light\n0 0 142 car",
  "colors first, commas": "0,0,0,background\n128,64,128,street light\n0,0,142,car",
  "colors first, hexadecimal": "#000000 background\n#804080 street light\n#00008e car",
  "ids and colors first": "0 0 0 0 background\n1 128 64 128 street light\n2 0 0 142 car",
  "colors and alpha first": "0 0 0 255 background\n128 64 128 255 street light\n0 0 142 255 car",
  "tuples": "background (0,0,0)\nstreet light (128, 64, 128)\ncar [0 0 142]",
  "a word for colors": "background rgb(0,0,0)\nstreet light rgb(128,64,128)\ncar rgb(0,0,142)",
  "colons": "background: 0,0,0\nstreet light: 128,64,128\ncar: 0,0,142",
  "3D Slicer": "0 background 0 0 0 0\n1 street light 128 64 128 255\n2 car 0 0 142 255",
  "ITK-SnAP": '# ITK-SnAP\n0 0 0 0 0 0 0 "background"\n1 128 64 128 1 1 1 "street light"\n'
  '2 0 0 142 1 1 1 "car"',
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_lines_of_colors_are_read_with_a_note(tmp_path, kind):
  table = _read(tmp_path, UNUSUAL[kind])
  assert (table.names, table.source_ids, table.colors) == (NAMES, IDS, COLORS)
  (note,) = table.notes
  assert "its lines are read as" in note and "1 = street light (128, 64, 128)" in note


LISTS = {
  "marks": "- background\n- street light\n- car",
  "stars": "* background\n* street light\n* car",
  "one line": "background, street light, car",
  "one line with ids": "0: background; 1: street light; 2: car",
  "quotes": "'background',\n'street light',\n'car'",
  "commas": "background,\nstreet light,\ncar",
  "comments": "background # all else\nstreet light\ncar // and vans",
  "letters": "a) background\nb) street light\nc) car",
  "a tuple": "('background', 'street light', 'car')",
}


@pytest.mark.parametrize("kind", LISTS)
def test_marks_of_lists_are_no_part_of_names(tmp_path, kind):
  table = _read(tmp_path, LISTS[kind])
  assert (table.names, table.source_ids) == (NAMES, IDS)
  assert table.notes[0].startswith(f"{tmp_path}/classes.txt: ")
  assert "0 = background, 1 = street light, 2 = car" in table.notes[0]


@pytest.mark.parametrize("text", ["['background', 'street light', 'car']", '{"names": ["a", "b"]}'])
def test_json_and_python_in_a_text_file(tmp_path, text):
  assert len(_read(tmp_path, text).names) == text.count(",") + 1


def test_numbers_that_may_be_of_the_name_are_noted(tmp_path):
  table = _read(tmp_path, "road 0 0 0\nphase 1 255 0 0\nphase 2 0 255 0")
  assert table.names == ("road", "phase 1", "phase 2") and "name 'phase 1'" in table.notes[0]


def test_ids_of_lists_with_numbers(tmp_path):
  table = _read(tmp_path, "1. road\n2. car")
  assert table.source_ids == (1, 2) and "1 = road, 2 = car" in table.notes[0]
  for text in ("(0) road\n(1) car", "0 - road\n1 - car", "class 0: road\nclass 1: car"):
    table = _read(tmp_path, text)
    assert (table.names, table.source_ids) == (("road", "car"), (0, 1))


@pytest.mark.parametrize(
  "text,message",
  [
    ("0 0 0 road\ncar", "'0 0 0 road' is no name of a class"),
    ("- road\ncar", "'- road' is no name of a class"),
    ("road 0.5 0.1 0.3\ncar 0 0.5 1", "'road 0.5 0.1 0.3' is no name"),
    ("road (0, 0, 0)\ncar", "some classes have colors and some none"),
    ("road, sky, 3", "is no name of a class"),
    ("name\nroad\ncar", "'name' is no name of a class but a heading"),
    ("name: road\nname: car", "'name: road' is no name"),
    ("0\n128\n255", "'0' is no name of a class; if it is an id, write '0: name'"),
    ("road: 0\ncar: 1", "if 0 is its id, write '0: road'"),
    ("0 0 0 road 0\n1 1 1 car 1", "'road 0' is no name of a class but two words"),
    ("road 1 1 1 7\ncar 2 2 2 9", "has four numbers, which may be"),
    ("5 5 0 255 road\n6 6 1 255 car", "has four numbers, which may be"),
    ("id name\n0 street light", "more columns than the heading; separate by commas"),
    ("name,r,g\nroad,0,0", "'name, r, g' does not head all of r, g and b"),
    ("id,name\n0,street,light", "more columns than the heading; put names with a ',' into quotes"),
    ("#804080 road\nsky", "'#804080 road' is no name of a class"),
    ("0: road\n1: car\nx: sky", "'x: sky' has no id, as most lines have"),
    ("road " * 20_000, "'road road .*'... is no name of a class"),
    ("road (0)\ncar (1)", "'road .0.' is no name of a class but two words; write '0: road'"),
    ("road,#000\ncar,#f00", "'road,#000' is no name of a class"),
    ("road\n2: car", "'2: car' is no name of a class"),
    ("road,0,0,1 car,0,0,2\nsky,0,0,3", "'road,0,0,1 car' is no name"),
    ("-1: void\n0: road\n1: car", "id -1 of class 'void'.*--ignore_id -1 if"),
  ],
)
def test_lines_that_may_be_anything_are_refused(tmp_path, text, message):
  with pytest.raises(DataError, match=f"classes.txt.*{message}"):
    _read(tmp_path, text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["c.txt", "c.json", "c.yaml"])
def test_text_of_windows(tmp_path, encoding, name):
  content = "names: [Straße, Auto]" if name == "c.yaml" else '["Straße", "Auto"]'
  (tmp_path / name).write_bytes(content.encode(encoding))
  assert read_classes(tmp_path / name).names == ("Straße", "Auto")
  (tmp_path / name).write_bytes("Straße\nAuto\n".encode("latin-1"))
  with pytest.raises(DataError, match="no text in UTF-8; save it as UTF-8"):
    read_classes(tmp_path / name)


def test_json_without_ids_and_of_names_to_ids(tmp_path):
  colored = [{"name": n, "color": list(c)} for n, c in zip(NAMES, COLORS)]
  for content in (colored, {"classes": colored}, {"labels": colored}):
    table = _read(tmp_path, content, "c.json")
    assert (table.names, table.source_ids, table.colors) == (NAMES, IDS, COLORS)
    assert "no ids and are counted from 0: 0 = background (0, 0, 0)" in table.notes[0]
  numbers = dict(zip(NAMES, (0, 7, 9)))
  assert _read(tmp_path, {"label2id": numbers}, "c.json").source_ids == (0, 7, 9)
  table = _read(tmp_path, numbers, "c.json")
  assert table.source_ids == (0, 7, 9) and "names with their ids: 0 = background" in table.notes[0]
  for colors in (list(map(list, COLORS)), ["#000000", "#804080", "#00008e"]):
    table = _read(tmp_path, dict(zip(NAMES, colors)), "c.json")
    assert (table.names, table.source_ids, table.colors) == (NAMES, IDS, COLORS)
    assert "names with their colors: 0 = background (0, 0, 0)" in table.notes[0]


@pytest.mark.parametrize(
  "changes,message",
  [
    ({"id": 1.5}, "the id of class 'car' is 1.5, which is no whole number"),
    ({"id": None}, "the id of class 'car' is empty"),
    ({"id": True}, "the id of class 'car' is True"),
    ({"id": 10**400}, "the id of class 'car' is a huge number"),
    ({"name": None}, "empty is no name of a class"),
    ({"name": 5}, "5 is no name of a class; put it in quotes"),
    ({"name": " "}, "'' is no name of a class"),
    ({"rgb": [0.5, 0, 0]}, r"the color of class 'car' is \[0.5, 0, 0\]; give red"),
    ({"rgb": [1.0, 0.0, 0.0]}, "the color of class 'car'"),
    ({"rgb": "1.5, 2"}, "the color of class 'car' is '1.5, 2'"),
    ({"color": "red"}, "the color of class 'car' is 'red'"),
    ({"rgb": [1, 2, 3, 9]}, "the color of class 'car'"),
    ({"ignored": "no"}, "'ignored' of class 'car' is 'no'; give true or false"),
  ],
)
def test_values_that_are_none(tmp_path, changes, message):
  entries = [{"id": 0, "name": "road"}, {"id": 1, "name": "car"} | changes]
  with pytest.raises(DataError, match=f"c.json cannot be read: {message}"):
    _read(tmp_path, {"classes": entries}, "c.json")


def test_values_that_mean_one_thing(tmp_path):
  entries = [{"id": "3", "name": "road", "rgb": [1, 2, 3, 255]}]
  entries += [{"id": 4.0, "name": " car ", "color": "rgb(4, 5, 6)"}]
  table = _read(tmp_path, {"classes": entries, "ignore_id": "9"}, "c.json")
  assert (table.names, table.source_ids, table.ignore_id) == (("road", "car"), (3, 4), 9)
  assert table.colors == ((1, 2, 3), (4, 5, 6))
  for words in ({"value": 3, "label": "road"}, {"class_id": 3, "class_name": "road"}):
    table = _read(tmp_path, [words], "c.json")
    assert (table.names, table.source_ids, table.notes) == (("road",), (3,), ())


def test_a_name_that_means_ignored_is_noted(tmp_path):
  table = _read(tmp_path, "void\nroad\n")
  assert table.names == ("void", "road")
  assert "'void' is a class like the others, with the id 0" in table.notes[0]
  assert table.notes[0].endswith("if its pixels are to be ignored, give --ignore_id 0")
  assert len(_read(tmp_path, "road\nUnlabeled area\nlane border\n").notes) == 1
  assert not _read(tmp_path, "0: road\n255: void\n").notes


def test_names_that_differ_in_case_or_blanks_alone_are_noted(tmp_path):
  table = _read(tmp_path, "Car\nstreet light\nroad\ncar\nstreet_light\n")
  assert len(table.names) == 5 and len(table.notes) == 2
  assert "'Car' and 'car' are two classes" in table.notes[0]
  assert "'street light' and 'street_light' are two classes" in table.notes[1]
  assert not _read(tmp_path, "car\ncart\nC\nC++\n").notes


def test_two_maps_of_classes_must_agree(tmp_path):
  file = tmp_path / "config.json"
  ids = {"id2label": {"0": "cat", "1": "dog"}, "label2id": {"dog": 1, "cat": 0}}
  file.write_text(json.dumps(ids))
  assert read_classes(file).names == ("cat", "dog")
  file.write_text(json.dumps(ids | {"label2id": {"cat": 1, "dog": 0}}))
  with pytest.raises(DataError, match="id2label and label2id in it give the classes other ids"):
    read_classes(file)
