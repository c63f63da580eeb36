"""Writes a page of a run, or of several side by side: curves, scores, mistakes, pictures, origin.

    python -m semiseg_jax.report --workdir=runs/cps_toy
    python -m semiseg_jax.report --workdir=runs/cps --workdir=runs/unimatch --out=compared.html

The page is one HTML file that needs no network and runs no script.  It shows what lies in the
folders and computes nothing: the worst and best pictures are those that the last evaluation kept.
Results of different protocols, lists or datasets are not ranked together.
"""

import argparse
from collections.abc import Sequence

import jax

from semiseg_jax import arguments, console, signals
from semiseg_jax.errors import DataError, ending
from semiseg_jax.reporting import writing


def report(
  workdirs: Sequence[str],
  out: str | None = None,
  *,
  pictures: int | None = None,
  damaged: list[str] | None = None,
) -> str:
  """Writes the page and returns where.

  Args:
    workdirs: of runs, trained or still training: folders, gs://... or s3://...
    out: the file, also in a store; None: report.html in the folder of the run, of several runs in
      the current one.
    pictures: worst ones of each run, and as many best ones; None: 4, fewer of many runs.
    damaged: gets a line for each file that is left out as it is damaged; the page says so, too.

  Raises:
    CheckpointError: a folder that holds no run.
    ConfigError: one given twice, or `out` is another file.
  """
  return writing.write(workdirs, out, pictures, damaged)


def main(argv: Sequence[str] | None = None) -> None:
  """The command line; exits with 1 when files of the runs are damaged."""
  parser = arguments.Parser("semiseg_jax.report", __doc__.partition("\n")[0])
  parser.add_argument(
    "--workdir",
    required=True,
    action="extend",
    nargs="+",
    metavar="DIR",
    help="of a training run: a folder, gs://, s3://; several are shown side by side",
  )
  parser.add_argument(
    "--out",
    metavar="FILE.html",
    help="default: WORKDIR/report.html, of several runs report.html here",
  )
  parser.add_argument(
    "--pictures",
    type=_count,
    metavar="N",
    help="worst ones of each run, and as many best ones (4, fewer of many runs)",
  )
  flags = parser.parse_args(argv)
  console.prepare()
  jax.config.update("jax_platforms", "cpu")  # a run that goes on keeps its devices for itself
  with signals.answered(), ending("report"):
    damaged: list[str] = []
    place = report(flags.workdir, flags.out, pictures=flags.pictures, damaged=damaged)
    print(f"report       {place}")
    if damaged:
      raise DataError.of_all("the page lacks what is damaged:", damaged)


def _count(text: str) -> int:
  if not text.isdigit():
    raise argparse.ArgumentTypeError(f"{text!r}: write a number of pictures, 0 for none")
  return int(text)


if __name__ == "__main__":
  main()
