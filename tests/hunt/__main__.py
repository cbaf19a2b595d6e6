"""Hunt: see `director`. The processes of a hunt import this module too, so it imports nothing."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from tests.hunt.director import main

    sys.exit(main())
