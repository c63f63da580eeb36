"""Classes in JSON, YAML and XML, as entries of id, name and maybe color."""

import collections
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from semiseg_jax import yaml_text
from semiseg_jax.data.class_entries import check_name, shown, whole

_MAPS = ("id2label", "label2id", "id2name", "name2id", "class_to_idx")
_OTHER_WORDS = {
  "name": ("class_name", "label_name", "label", "category"),
  "id": ("value", "pixel_value", "class_id", "label_id", "index", "trainId"),
}
_LISTS = ("classes", "categories", "stuff_classes", "thing_classes", "names", "labels")


class _TwiceError(ValueError):
  """A key that stands twice in a mapping; parsers take the last one without a word."""


def _check_once(keys: Iterable[Any]) -> None:
  twice = [key for key, count in collections.Counter(keys).items() if count > 1]
  if twice:
    raise _TwiceError(f"the key {shown(twice[0])} stands twice in it")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  _check_once(key for key, _ in pairs)
  return dict(pairs)


class _Loader(yaml.SafeLoader):
  def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    _check_once(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
    return super().construct_mapping(node, deep)


def from_json(text: str) -> dict[str, Any]:
  """Fields with 'classes', a list of entries, of any JSON that names classes.

  Raises:
    ValueError: there are none.
  """
  try:
    return read_fields(json.loads(text, object_pairs_hook=_object))
  except json.JSONDecodeError as error:
    raise ValueError(f"no JSON from line {error.lineno}, column {error.colno} on") from error
  except RecursionError as error:
    raise ValueError("no JSON of classes: too many brackets in each other") from error


def from_yaml(text: str) -> dict[str, Any]:
  """As `from_json`, of a data.yaml of Ultralytics or Roboflow, or another YAML of this content."""
  try:
    yaml_text.check_aliases(text)
    fields = yaml.load(text, _Loader)
  except yaml.YAMLError as error:
    mark = getattr(error, "problem_mark", None)
    raise ValueError("no YAML" + (f" from line {mark.line + 1} on" if mark else "")) from error
  except (_TwiceError, yaml_text.AliasError):
    raise
  except yaml_text.FAULTS as error:
    raise ValueError("no YAML: a value in it cannot be read") from error
  return read_fields(fields)


def from_xml(text: str) -> dict[str, Any]:
  """As `from_json`, of the XML that CVAT writes: the labels of its task."""
  try:
    labels = ET.fromstring(text).find(".//labels")
  except ET.ParseError as error:
    raise ValueError(f"no XML: {error}") from error
  if labels is None:
    raise ValueError("an XML without <labels>, which CVAT's has")
  entries = []
  for number, label in enumerate(labels.findall("label")):
    color = label.findtext("color")
    name = label.findtext("name") or ""
    entries.append({"id": number, "name": name} | ({"color": color} if color else {}))
  return {"classes": entries}


def read_fields(fields: Any) -> dict[str, Any]:
  """As `from_json`, of what was parsed."""
  if isinstance(fields, list):
    return {"classes": _entries(fields)}
  if not isinstance(fields, Mapping):
    raise ValueError(f"it holds {shown(fields)} in place of classes")
  for key in _LISTS:
    if key in fields:
      classes = {"classes": _entries(fields[key])}
      if key == "classes":
        return dict(fields) | classes
      return classes | ({"num_classes": fields.get("nc")} if key == "names" else {})
  maps = {key: _of_map(fields[key]) for key in _MAPS if key in fields}  # Hugging Face
  if maps:
    first, *others = maps
    for key in others:
      if _ids(maps[key]) != _ids(maps[first]):
        raise ValueError(f"{first} and {key} in it give the classes other ids; leave one out")
    return {"classes": maps[first]}
  classes = _of_map(fields)
  what = "ids" if "id" in classes[0] else "colors"
  note = f"its fields are read as names with their {what}"
  return {"classes": classes} | ({} if _has_ids(fields) else {"note": note})


def _entries(classes: Any) -> list[dict[str, Any]]:
  if isinstance(classes, Mapping) and "label" in classes:  # Datumaro
    label = classes["label"]
    classes = label.get("labels") if isinstance(label, Mapping) else label
    if isinstance(classes, list):  # whose ids are their positions
      classes = [label.get("name") if isinstance(label, Mapping) else label for label in classes]
  if isinstance(classes, Mapping):
    return _of_map(classes)
  if isinstance(classes, str) or not isinstance(classes, Sequence):
    raise ValueError(f"it holds {shown(classes)} in place of a list of classes")
  return [_entry(number, fields) for number, fields in enumerate(classes)]


def _of_map(names: Any) -> list[dict[str, Any]]:
  """Of id -> name, of name -> id, or of name -> color."""
  if not isinstance(names, Mapping) or not names:
    raise ValueError(f"it holds {shown(names)} in place of classes")
  if _has_ids(names):
    return [{"id": whole(id_, "an id"), "name": check_name(name)} for id_, name in names.items()]
  if all(isinstance(id_, int) and not isinstance(id_, bool) for id_ in names.values()):
    return [{"id": id_, "name": check_name(name)} for name, id_ in names.items()]
  if all(_is_color(color) for color in names.values()):
    return [{"name": check_name(name), "color": color} for name, color in names.items()]
  raise ValueError(f"none of its fields are classes ({', '.join(map(str, names))[:60]})")


def _is_color(value: Any) -> bool:
  is_text = isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value.strip()) is not None
  return is_text or (isinstance(value, list) and len(value) in (3, 4))


def _ids(classes: list[dict[str, Any]]) -> dict[str, int]:
  return {one["name"]: one.get("id") for one in classes}


def _has_ids(names: Mapping[Any, Any]) -> bool:
  return all(re.fullmatch(r"-?\d+", str(id_)) for id_ in names)


def _entry(number: int, fields: Any) -> dict[str, Any]:
  if not isinstance(fields, Mapping):
    return {"id": number, "name": check_name(fields)}
  if "title" in fields and "name" not in fields:  # Supervisely, whose ids are not those of masks
    return {"id": number, "name": fields["title"], "color": fields.get("color")}
  entry = dict(fields)
  for key, others in _OTHER_WORDS.items():
    word = next((word for word in others if word in entry), None)
    if key not in entry and word is not None:
      entry[key] = entry[word]
  return entry
