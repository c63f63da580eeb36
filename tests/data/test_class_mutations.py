"""Classes files with small changes: read as names, ids and colors, or refused in plain words."""

import json

import pytest

from semiseg_jax.data.class_table import read_classes
from semiseg_jax.errors import UserError
from tests import mutations
from tests.data import test_class_formats as formats

_OWN = {"classes": [{"id": 0, "name": "sky", "rgb": [1, 2, 3]}, {"id": 7, "name": "sea"}]}
_XML = (
  "<annotations><meta><task><labels><label><name>a</name><color>#ff0000</color></label>"
  "<label><name>b</name><color>#fff000</color></label></labels></task></meta></annotations>"
)
FILES = {
  **{f"text {kind}": ("c.txt", text) for kind, text in formats.TEXTS.items()},
  **{f"text {kind}": ("c.txt", text) for kind, text in formats.UNUSUAL.items()},
  **{f"table {kind}": ("c.csv", text) for kind, text in formats.TABLES.items()},
  **{f"YAML {kind}": ("c.yaml", text) for kind, text in formats.YAML.items()},
  **{
    kind: ("c.txt" if isinstance(content, str) else "c.json", content)
    for kind, content in formats.NAMED.items()
  },
  "our own": ("c.json", _OWN | {"ignore_id": 11, "num_classes": 2}),
  "XML": ("c.xml", _XML),
}


def changed(name, content, seed):
  """The text of a changed file."""
  rng = mutations.seeded(f"{name} {seed}")
  if not isinstance(content, str):
    return mutations.of_fields(content, rng)
  return (mutations.of_xml if name.endswith(".xml") else mutations.of_lines)(content, rng)


@pytest.mark.parametrize("kind", FILES)
def test_a_changed_file_is_read_or_refused(tmp_path, kind):
  name, content = FILES[kind]
  file = tmp_path / name
  read = 0
  for seed in range(25):
    file.write_text(changed(name, content, seed))
    try:
      table = read_classes(file)
    except UserError as error:
      mutations.check_message(str(error), str(file))
      continue
    read += 1
    assert all(isinstance(n, str) and n and n == n.strip() for n in table.names)
    assert all(type(id_) is int and 0 <= id_ < 65536 for id_ in table.source_ids)
    assert all(type(level) is int and 0 <= level < 256 for c in table.colors for level in c)
    assert len(set(table.names)) == len(table.names) == len(set(table.source_ids))
  assert 0 < read < 25


@pytest.mark.parametrize("content", [*mutations.VALUES, [{}], {"classes": None}, {"names": 3}])
def test_json_of_anything_is_refused(tmp_path, content):
  file = tmp_path / "c.json"
  file.write_text(json.dumps(content))
  if content in (["a"], {"a": 1}):
    assert read_classes(file).names == ("a",)
    return
  with pytest.raises(UserError) as caught:
    read_classes(file)
  mutations.check_message(str(caught.value), str(file))
