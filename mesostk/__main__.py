"""`python -m mesostk` is the command `mesostk`."""

import sys

from mesostk.cli.app import main

sys.exit(main())
