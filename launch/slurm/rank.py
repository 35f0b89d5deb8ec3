"""One rank on a node: sends what it says to a file of its own, then becomes the module it was asked for.

python -m launch.slurm.rank LOG_DIR framework.train CONFIG [key.path=value ...]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Standard output and error go to ``LOG_DIR/rank-00000.out``, in the order in which they are written."""
    folder, module, *rest = arguments
    path = Path(folder) / f"rank-{int(os.environ.get('RANK', '0')):05d}.out"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    os.execv(sys.executable, [sys.executable, "-u", "-m", module, *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
