"""python -m kswgd_hpc and the command kswgd-hpc: the same as kswgd_hpc.run."""

import sys

from kswgd_hpc.run import main

if __name__ == "__main__":
    sys.exit(main())
