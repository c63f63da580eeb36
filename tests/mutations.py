"""Small changes to valid files, such as hands and programs make: seeded, of any depth."""

import copy
import json
import random
import xml.etree.ElementTree as ET

VALUES = (
  *(None, True, False, "", " ", "x", "7", "-1", "1.5", "nan", "\x00", "é" * 50),
  *(0, 1, -1, 2.5, 1e300, -1e300, 10**30, float("nan"), float("inf")),
  *([], {}, [None], [[]], [1], ["a"], [[1, 2], [3]], {"a": 1}, [1, 2, 3, 4], [0, -5, 1e9, 7]),
)
WORDS = ("", "x", "-1", "1e999", "nan", "1.5", "9" * 30, "0", "\x00", "é", ";", "1,2", "#12", ":")


def of_fields(content, rng):
  """A JSON text of changed fields: one or two values replaced, removed or doubled, or cut off."""
  content = copy.deepcopy(content)
  for _ in range(rng.randint(1, 2)):
    places = list(_places(content))
    holder, key = rng.choice(places) if places else (None, None)
    if holder is None:
      break
    if rng.random() < 0.25:
      del holder[key]
    elif rng.random() < 0.1 and isinstance(holder, list):
      holder.append(copy.deepcopy(holder[key]))
    else:
      holder[key] = copy.deepcopy(rng.choice(VALUES))
  text = json.dumps(content)
  return text[: rng.randrange(len(text))] if rng.random() < 0.1 else text


def of_xml(text, rng):
  """An XML text with an attribute or a text replaced, an element removed, or cut off."""
  root = ET.fromstring(text)
  for _ in range(rng.randint(1, 2)):
    element = rng.choice(list(root.iter()))
    word = rng.choice([word for word in WORDS if word != "\x00"])
    if element.attrib and rng.random() < 0.6:
      name = rng.choice(sorted(element.attrib))
      if rng.random() < 0.3:
        del element.attrib[name]
      else:
        element.set(name, word)
    elif len(element) and rng.random() < 0.4:
      element.remove(rng.choice(list(element)))
    else:
      element.text = word
  text = ET.tostring(root, encoding="unicode")
  return text[: rng.randrange(len(text))] if rng.random() < 0.1 else text


def of_lines(text, rng):
  """A text with words replaced, removed or doubled, or cut off."""
  lines = text.split("\n")
  for _ in range(rng.randint(1, 2)):
    at = rng.randrange(len(lines))
    words = lines[at].split(" ")
    word = rng.randrange(len(words))
    words[word : word + 1] = rng.choice([[], [rng.choice(WORDS)], [words[word]] * 2])
    lines[at] = " ".join(words)
  text = "\n".join(lines)
  return text[: rng.randrange(len(text) + 1)] if rng.random() < 0.1 else text


def _places(content):
  items = content.items() if isinstance(content, dict) else enumerate(content)
  for key, value in items:
    yield content, key
    if isinstance(value, dict | list):
      yield from _places(value)


def seeded(seed):
  """A source of random numbers."""
  return random.Random(seed)


_INTERNALS = (
  *("Error:", "Traceback", "NoneType", "object is not", "has no attribute", "cannot reshape"),
  *("invalid literal", "could not convert", "list index", "unhashable", "<class", "inhomogeneous"),
)


def check_message(message, file):
  """Asserts that a message is one line, names the file and says nothing of Python."""
  assert "\n" not in message and file in message, message
  assert not [word for word in _INTERNALS if word in message], message
