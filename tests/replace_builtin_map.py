"""A pytest plugin that puts `amorsize.map` in the place of the builtin, before anything is collected.

PYTHONPATH=tests python -m pytest -p replace_builtin_map path/to/some/projects/tests
"""

from __future__ import annotations

import builtins

import amorsize

builtins.map = amorsize.map
