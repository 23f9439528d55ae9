"""Which files of a folder are copies of each other? Hashes them all, on workers where that pays.

Usage: python examples/hash_files.py [FOLDER]
"""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from pathlib import Path

from amorsize import parallelize


@parallelize
def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(hashlib.__file__).parent / "json"
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    copies = defaultdict(list)
    for path, key in zip(paths, digest.map(paths), strict=True):
        copies[key].append(path)
    print(f"{len(paths)} files, {len(copies)} different ones")
    for same in copies.values():
        if len(same) > 1:
            print("  " + ", ".join(str(path.relative_to(folder)) for path in same))


if __name__ == "__main__":
    main()
