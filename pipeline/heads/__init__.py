"""Light models trained on features, one module each, and the data they are trained on.

A public module that defines `build` is a head, and its name is the module's with hyphens. Adding
a head is adding its file; there is no list to edit.
"""

from pipeline.heads._head import build, names

__all__ = ["build", "names"]
