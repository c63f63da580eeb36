"""Calls in pickles that run programs or code: what a file asks for beside its weights.

No call of a pickle is ever made (see `inert`), so nothing depends on the completeness of this list.
It is there because a file that asks for one of these is none to be loaded elsewhere either.
"""

from semiseg_jax.errors import WeightsError

_MODULES = {
  *("os", "posix", "nt", "os2", "subprocess", "_posixsubprocess", "commands", "popen2", "pty"),
  *("sys", "importlib", "imp", "runpy", "pkgutil", "zipimport", "code", "codeop", "ctypes"),
  *("_ctypes", "marshal", "pickle", "_pickle", "cPickle", "shelve", "shutil", "socket", "_socket"),
  *("urllib", "urllib2", "http", "httplib", "ftplib", "smtplib", "webbrowser", "antigravity"),
  *("pdb", "bdb", "timeit", "trace", "profile", "cProfile", "doctest", "pydoc", "platform"),
}
_BUILTINS = {
  *("eval", "exec", "execfile", "compile", "__import__", "open", "file", "input", "breakpoint"),
  *("apply", "reload", "globals", "setattr", "delattr"),
}


def check(module: str, name: str) -> None:
  """Raises WeightsError for a call of `module.name` that runs programs or code."""
  first = name.partition(".")[0]
  if module.partition(".")[0] in _MODULES or (module == "builtins" and first in _BUILTINS):
    raise WeightsError(
      f"the file wants to run {module}.{name}; it was not executed, and nothing was read. No "
      "weights need such a call, and other programs would make it when they load the file: take "
      "the file from its publisher, or ask for the state dict alone."
    )
