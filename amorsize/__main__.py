"""`python -m amorsize` runs the command line where the script `amorsize` is not on the path."""

from __future__ import annotations

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
