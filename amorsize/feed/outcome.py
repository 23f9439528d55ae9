"""Decides about an item that failed: it is tried again, its error stands in its place, or the call ends there."""

from __future__ import annotations

from ..errors import add_index
from ..plan.retry import NOT_OF_ITEMS, Failed

__all__ = ["Outcome"]


class Outcome:
    """The verdict on failed items, wherever they ran.

    Args:
        retries: how often an item that failed is tried again.
        returns: whether the last error of an item is its result.
        failures: where items that failed for good are listed.
    """

    def __init__(self, retries: int, returns: bool, failures: list[Failed]) -> None:
        self.retries = retries
        self.returns = returns
        self.failures = failures

    def is_tried_again(self, error: BaseException, tries: int) -> bool:
        """Say whether an item whose try number `tries` ended in `error` gets another one."""
        return tries <= self.retries and not isinstance(error, NOT_OF_ITEMS)

    def stands(self, index: int, error: BaseException, tries: int) -> bool:
        """Take in that an item has failed for good; say whether its error stands in its place or ends the call.

        Raises:
            KeyboardInterrupt: `error` itself, if it is one.
        """
        if isinstance(error, KeyboardInterrupt):
            raise error
        if isinstance(error, StopIteration):  # no failure: the builtin's iteration ends there too
            return False
        self.failures.append(Failed(index, add_index(error, index), tries))
        return self.returns and not isinstance(error, GeneratorExit)
