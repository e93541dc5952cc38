"""The command line ``itemdex``, also as ``python -m itemdex``."""

import sys

from ._itemdex import _run


def main() -> int:
    return _run(["itemdex", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
