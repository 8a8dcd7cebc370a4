"""`python -m aiosessions`."""

from aiosessions.cli import main

raise SystemExit(main())
