"""SHA-256 without `hashlib`, whose import takes 4 ms because it loads OpenSSL. `random` does the same."""

from __future__ import annotations

import sys

from .lean import map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from hashlib import sha256
    from typing import Any
else:
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256
    except ImportError:
        from hashlib import sha256

# From this size on OpenSSL is used, which is four times as fast and takes 2 ms to import, once. With a smaller value
# a process that sends 100 kB once pays for the import in vain.
_LONG_BYTES = 1 << 18


def hash_of(pieces: Sequence[bytes | bytearray | memoryview]) -> Any:
    """Return a SHA-256 object that has read some pieces as if they were joined; large ones are not copied.

    >>> hash_of([b"a", b"b"]).digest() == sha256(b"ab").digest()
    True
    """
    if sum(map(len, pieces)) < _LONG_BYTES:
        return sha256(b"".join(pieces))
    from hashlib import sha256 as quick_sha256

    whole = quick_sha256()
    for piece in pieces:
        whole.update(piece)
    return whole


__all__ = ["hash_of", "sha256"]
