"""`python -m app` is the command `litecast`."""

import sys

from app.cli import main

sys.exit(main())
