"""All commands under one name: `semiseg NAME ...` is what `python -m ROOM.NAME ...` is.

semiseg train --config=configs/cps_toy.py --workdir=runs/cps_toy
semiseg NAME --help
"""

import difflib
import runpy
import sys
from collections.abc import Sequence

from semiseg_jax.arguments import called_as
from semiseg_jax.errors import refuse

# Name -> its module and what it does.
COMMANDS = {
  "train": ("semiseg_jax.main", "trains what a config says"),
  "evaluate": ("semiseg_jax.evaluate", "scores a trained run on a labeled list"),
  "predict": ("semiseg_jax.predict", "labels pictures with a trained run"),
  "label": ("semiseg_jax.label", "stores the labels of a trained run, to be learned from"),
  "suggest": ("semiseg_jax.suggest", "says which pictures to label next, which labels to check"),
  "report": ("semiseg_jax.report", "writes a page of a run, or of several side by side"),
  "export": ("semiseg_jax.export", "writes a trained network for jax, ONNX, PyTorch or a hub"),
  "config": ("semiseg_jax.config", "prints every key of a config"),
  "sweep": ("semiseg_jax.sweep", "runs a list of configs and seeds, and compares them"),
  "benchmark": ("semiseg_jax.benchmark", "speed, memory, cost, and a study of methods"),
  "summary": ("semiseg_jax.benchmark.summary", "parameters, FLOPs and memory per stage"),
  "folder": ("data_prep.folder", "prepares pictures of your own"),
  "voc": ("data_prep.voc", "prepares PASCAL VOC 2012"),
  "cityscapes": ("data_prep.cityscapes", "prepares Cityscapes"),
  "inspect": ("data_prep.inspect", "shows and verifies a prepared dataset"),
  "splits": ("data_prep.splits", "makes lists of labeled pictures"),
  "targets": ("data_prep.targets", "stores labels that another network made"),
  "pretrained": ("data_prep.pretrained", "converts published weights of a backbone"),
  "published": ("data_prep.published", "imports a published trained network"),
}


_USAGE = """usage: semiseg COMMAND ...    (semiseg COMMAND --help says more)

{commands}

  semiseg train --config=configs/cps_toy.py --workdir=runs/cps_toy

Where there is no configs/NAME.py, that of this program is taken."""


def usage() -> str:
  """Returns the commands, one a line."""
  return _USAGE.format(commands="\n".join(f"  {k:<11} {does}" for k, (_, does) in COMMANDS.items()))


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the module of a command as `python -m` does; an unknown one ends with the list."""
  arguments = sys.argv[1:] if argv is None else list(argv)
  name = arguments[0] if arguments else "help"
  if name in ("help", "-h", "--help"):
    print(usage())
    return
  if name not in COMMANDS:
    near = difflib.get_close_matches(name, COMMANDS, 1)
    if near:
      refuse(
        f"semiseg: {name!r} is no command. Did you mean {near[0]!r}? `semiseg --help` lists them."
      )
    refuse(f"semiseg: {name!r} is no command.\n{usage()}")
  sys.argv = [f"semiseg {name}", *arguments[1:]]
  names = {module: f"semiseg {name}" for name, (module, _) in COMMANDS.items()}
  with called_as(names):
    runpy.run_module(COMMANDS[name][0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  main()
