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
from semiseg_jax.arguments import command


def measurements() -> dict[str, str]:
  """Returns name -> module of everything that can be measured."""
  found = {}
  for module in pkgutil.iter_modules(benchmark.__path__, f"{benchmark.__name__}."):
    name = module.name.rpartition(".")[2]
    if not name.startswith("_") and hasattr(importlib.import_module(module.name), "main"):
      found[name] = module.name
  return found


def _title(module: str) -> str:
  return importlib.import_module(module).__doc__.splitlines()[0]


def main(argv: Sequence[str] | None = None) -> None:
  """Hands the options to the measurement that `--what` names."""
  known = measurements()
  parser = argparse.ArgumentParser(
    prog=command("semiseg_jax.benchmark"),
    description=__doc__,
    epilog="\n".join(f"  {name:<12}{_title(module)}" for name, module in sorted(known.items())),
    formatter_class=argparse.RawDescriptionHelpFormatter,
    add_help=False,  # --help with --what is for the measurement
  )
  parser.add_argument("--what", choices=sorted(known), required=True, help="the measurement")
  arguments = sys.argv[1:] if argv is None else list(argv)
  if {"-h", "--help"} & set(arguments) and not any(a.startswith("--what") for a in arguments):
    parser.print_help()
    return
  chosen, rest = parser.parse_known_args(arguments)
  importlib.import_module(known[chosen.what]).main(rest)


if __name__ == "__main__":
  main(sys.argv[1:])
