"""HTML and SVG as trees of the standard library, which escapes every text and attribute."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any

Node = ET.Element
Content = Any  # a Node, a text or number, None, or an iterable of these


def el(name: str, /, *content: Content, **attributes: Any) -> Node:
  """Returns an element.

      el("p", "IoU of ", el("b", name), class_="note")

  Args:
    name: of the element.
    *content: nodes and texts in order; None is nothing.
    **attributes: `class_` is class, `stroke_width` is stroke-width; one that is None is left out.
  """
  node = ET.Element(name)
  for key, value in attributes.items():
    if value is not None:
      node.set(key.rstrip("_").replace("_", "-"), _text(value))
  append(node, content)
  return node


def append(node: Node, content: Content) -> None:
  """Puts content behind what a node holds."""
  if content is None:
    return
  if isinstance(content, ET.Element):
    node.append(content)
  elif isinstance(content, Iterable) and not isinstance(content, str):
    for part in content:
      append(node, part)
  elif len(node):
    node[-1].tail = (node[-1].tail or "") + _text(content)
  else:
    node.text = (node.text or "") + _text(content)


def _text(value: Any) -> str:
  """Numbers of drawings with two digits behind the point."""
  return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def document(title: str, style: str, body: Iterable[Content]) -> bytes:
  """Returns the file of a page, which may load nothing and run nothing.

  Args:
    title: of the page.
    style: CSS, which is taken as it is.
    body: of the page.
  """
  policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
  head = el(
    "head",
    el("meta", charset="utf-8"),
    el("meta", **{"http-equiv": "Content-Security-Policy", "content": policy}),
    el("meta", name="viewport", content="width=device-width, initial-scale=1"),
    el("meta", name="generator", content=GENERATOR),
    el("link", rel="icon", href="data:,"),
    el("title", title),
    el("style", style),
  )
  page = el("html", head, el("body", body), lang="en")
  text = "<!doctype html>\n" + ET.tostring(page, encoding="unicode", method="html") + "\n"
  return text.encode("utf-8", "replace")  # a name may hold half of a surrogate pair


GENERATOR = "semiseg_jax.report"  # tells our pages from other files
