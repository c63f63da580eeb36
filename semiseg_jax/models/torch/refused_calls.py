"""Calls in pickles that run programs or code: what a file asks for beside its weights.

No call of a pickle is ever made (see `inert`), so nothing depends on the completeness of this list.
It is there because a file that asks for one of these is none to be loaded elsewhere either.
"""

import itertools

from semiseg_jax.errors import WeightsError

_MODULES = {
  *("os", "posix", "nt", "os2", "subprocess", "_posixsubprocess", "commands", "popen2", "pty"),
  *("sys", "importlib", "imp", "runpy", "pkgutil", "zipimport", "code", "codeop", "ctypes"),
  *("_ctypes", "marshal", "pickle", "_pickle", "cPickle", "shelve", "shutil", "socket", "_socket"),
  *(
    "urllib.request",
    "urllib2",
    "http.client",
    "httplib",
    "ftplib",
    "smtplib",
    "webbrowser",
    "antigravity",
  ),
  *("pdb", "bdb", "timeit", "trace", "profile", "cProfile", "doctest", "pydoc"),
}
_RECORDS = ("_result", "Result", "Error", "CompletedProcess")  # ends of names of plain values there
_BUILTINS = {
  *("eval", "exec", "execfile", "compile", "__import__", "open", "file", "input", "breakpoint"),
  *("apply", "reload", "globals", "setattr", "delattr"),
}


def check(module: str, name: str) -> None:
  """Raises WeightsError for a call of `module.name` that runs programs or code."""
  parents = itertools.accumulate(module.split("."), "{}.{}".format)
  runs = not _MODULES.isdisjoint(parents) and not name.endswith(_RECORDS)
  if runs or (module == "builtins" and name.partition(".")[0] in _BUILTINS):
    raise WeightsError(
      f"the file wants to run {module}.{name}; it was not executed, and nothing was read. No "
      "weights need such a call, and other programs would make it when they load the file: take "
      "the file from its publisher, or ask for the state dict alone."
    )
