"""`python -m autobatch` is the command `autobatch`."""

from __future__ import annotations

import sys

from autobatch.demo.cli import main

if __name__ == "__main__":
    sys.exit(main())
