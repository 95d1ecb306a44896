"""Files, safely: written whole or not at all, held by one process, read as what they should be. Needs no torch."""
