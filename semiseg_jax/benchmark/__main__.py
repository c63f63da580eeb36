"""Measures a part of the program: `python -m semiseg_jax.benchmark --what=input`.

Each module here with a function `main(argv)` is a measurement; `--what=NAME --help` lists the
options of one.
"""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from semiseg_jax import benchmark


def measurements() -> dict[str, str]:
  """Returns name -> module of everything that can be measured."""
  found = {}
  for module in pkgutil.iter_modules(benchmark.__path__, f"{benchmark.__name__}."):
    name = module.name.rpartition(".")[2]
    if not name.startswith("_") and hasattr(importlib.import_module(module.name), "main"):
      found[name] = module.name
  return found


def main(argv: Sequence[str] | None = None) -> None:
  """Hands the options to the measurement that `--what` names."""
  known = measurements()
  parser = argparse.ArgumentParser(prog="semiseg_jax.benchmark", add_help=False)
  parser.add_argument("--what", choices=sorted(known), required=True)
  chosen, rest = parser.parse_known_args(argv)
  importlib.import_module(known[chosen.what]).main(rest)


if __name__ == "__main__":
  main(sys.argv[1:])
