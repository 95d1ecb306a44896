"""`python -m ornstein`."""

import sys

from ornstein.cli import main

sys.exit(main())
