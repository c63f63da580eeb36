"""The options of the command that makes splits."""

import argparse

from data_prep import command
from semiseg_jax import arguments

RULES = ("every", "first", "random", "class_balanced", "stratified")
_DRAWN = ("random", "stratified")


def parse(argv: list[str], about: str) -> argparse.Namespace:
  """The options of the command, which `about` describes."""
  parser = arguments.Parser(
    "data_prep.splits",
    description=about,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--dataset", required=True, help="the folder of a prepared dataset")
  parser.add_argument("--of", default="train", help="a list of the dataset, or a file of ids")
  parser.add_argument("--rule", choices=RULES, help="of folds and hold-outs: stratified")
  size = parser.add_mutually_exclusive_group(required=True)
  size.add_argument("--ratio", type=int, nargs="+", default=[], help="8 for 1/8; several: nested")
  size.add_argument("--count", type=int, nargs="+", default=[], help="numbers of pictures")
  size.add_argument("--folds", type=int, metavar="K", help="K pairs of train and val, K from 2 on")
  size.add_argument(
    "--holdout", type=float, metavar="SHARE", help="share of the labeled pictures for val"
  )
  size.add_argument(
    "--matching",
    action=command.Pattern,
    metavar="REGEX",
    help="two lists: pictures in whose ids it finds something, as '^0001TP', and all others",
  )
  parser.add_argument(
    "--group",
    action=command.Pattern,
    default="",
    metavar="REGEX",
    help="what pictures of one group have in common in their ids (its first group or all that it "
    "matches): 'patient_\\d+', '^(.*)_frame'; groups are never divided",
  )
  parser.add_argument(
    "--order",
    default="sorted",
    help="'sorted', 'list' (as --of stands), a file of the ids, or a .pkl of their positions",
  )
  parser.add_argument("--seed", type=int, help="of the rules random and stratified (0)")
  parser.add_argument(
    "--add",
    nargs="*",
    metavar="NAME",
    help="add the lists to the dataset, as labeled_1_8, labeled_92, fold_0_train, or holdout_train "
    "without names; of folds and hold-outs a name stands before '_0_train' or '_train'",
  )
  parser.add_argument(
    "--out", nargs="+", default=[], metavar="FILE", help="write the lists; of folds, a folder"
  )
  parser.add_argument("--overwrite", action="store_true", help="replace lists and files")
  options = parser.parse_args(argv)
  if options.matching is not None:
    problem = _problem_of_matching(options)
  else:
    problem = _problem_of_folds(options) if _divides(options) else _problem_of_sizes(options)
  if not problem and options.seed is not None:
    if options.rule not in (None, *_DRAWN):
      problem = f"--seed: rule {options.rule} draws nothing"
    elif options.seed < 0:
      problem = "--seed: give a number from 0 on"
  if problem:
    parser.error(problem)
  return options


def _divides(options: argparse.Namespace) -> bool:
  return options.folds is not None or options.holdout is not None


def _problem_of_sizes(options: argparse.Namespace) -> str:
  sizes = options.ratio + options.count
  if options.rule is None:
    return f"--rule: give one of {', '.join(RULES)}"
  if not sizes or min(sizes) < 1:
    return "--ratio, --count and --folds: give numbers from 1 on"
  if len(set(sizes)) < len(sizes):
    return "--ratio and --count: a number is given twice"
  for flag in ("add", "out"):
    if getattr(options, flag) and len(getattr(options, flag)) != len(sizes):
      return f"--{flag}: give {len(sizes)} names, one for each size"
  if options.group and options.rule not in _DRAWN:
    return f"--group: rule {options.rule} takes single pictures; give --rule {' or '.join(_DRAWN)}"
  return ""


def _problem_of_matching(options: argparse.Namespace) -> str:
  if options.rule is not None or options.group or options.seed is not None:
    return "--matching: the pattern alone decides; leave out --rule, --group and --seed"
  if options.order != "sorted":
    return "--order: --matching keeps the order of --of"
  for flag in ("add", "out"):
    if len(getattr(options, flag) or []) not in (0, 2):
      return f"--{flag}: give two names, first of the pictures that match, then of the others"
  return ""


def _problem_of_folds(options: argparse.Namespace) -> str:
  if options.folds is not None and options.folds < 2:
    return f"--folds {options.folds}: give a number from 2 on"
  if options.rule not in (None, *_DRAWN):
    return f"--rule {options.rule} makes no folds; give {' or '.join(_DRAWN)}"
  if options.order != "sorted":
    return "--order: folds and hold-outs keep the order of --of"
  for flag in ("add", "out"):
    if len(getattr(options, flag) or []) > 1:
      return f"--{flag}: give one name for all folds"
  return ""
