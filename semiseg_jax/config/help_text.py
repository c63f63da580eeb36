"""The help of a command that takes a config: what it does, and its own options."""

import sys
import textwrap

from absl import flags

from semiseg_jax import arguments

_INDENT = " " * 26


def show(values: flags.FlagValues) -> None:
  """Prints the docstring of the running module, and the options beside `--config` with theirs."""
  main = sys.modules["__main__"]
  lines = [arguments.worded((main.__doc__ or "").strip()), "", "options:"]
  own = values.find_module_defining_flag("config")
  for flag in sorted(values.get_flags_for_module(own), key=lambda flag: flag.name != "config"):
    lines.append(_line(flag))
  lines.append(_wrapped("  --config.KEY=VALUE", "Another value for a key of the config."))
  print("\n".join(lines))


def _line(flag: flags.Flag) -> str:
  name = f"  --{flag.name}" + ("" if flag.boolean else "=VALUE")
  return _wrapped(name, flag.help or "")


def _wrapped(name: str, help_: str) -> str:
  text = textwrap.wrap(help_, 99 - len(_INDENT))
  return f"{name:<{len(_INDENT)}}" + f"\n{_INDENT}".join(text)
