"""How many items should wait at once? Work that waits has no natural number of workers, so this finds one.

What is wanted is throughput. By Little's law (Little, Operations Research 1961) it is the number of items under way
divided by the mean time of an item, its *latency*. So each completion tells something, however slowly its result is
taken, and no clock of the whole is needed. The controller works in rounds: at one width it gathers latencies until
their mean is known, and then decides.

- *Doubling*, as the slow start of TCP (Jacobson, SIGCOMM 1988): twice the width is tried as long as throughput rises.
- *Holding*: the width that was found is kept. Now and then a quarter more is tried, and a quarter less. More stays if
  throughput rises, and then doubling goes on from there; less stays if it hardly falls. Tries that fail become rarer.
- *Backing off*: when latency grows at the same width, the server is slower, or has a queue now. The width is divided by
  that growth, as gradient limits are (Netflix, concurrency-limits, 2018), and wider tries find out which of the two it
  was. An error of overload halves the width at once: additive increase with multiplicative decrease settles where the
  load is bearable (Chiu & Jain, Computer Networks 1989).

Latencies do not tell all where items take turns, as those of pure Python do: a thread that has its turn is done with
several short items while the others have not come to the end of one, and most of the items that are counted are short.
So throughput is at most what has ended, and half of what is under way, in the time in which any was busy. Where that
is less than Little's law says, a round of the first search has more completions.

All times are arguments; this module has no clock.
"""

from __future__ import annotations

__all__ = ["MOST_WIDTH", "START_WIDTH", "WidthControl"]

# No more than this unless the user asks for more: servers ban clients that open hundreds of connections.
MOST_WIDTH = 32
# Where nothing is known. With a larger value, work for which few threads are right is begun with too many; with a
# smaller one, the way to the right number is longer.
START_WIDTH = 4
# A round has at least so many completions: while doubling about half the width, which are those that run beside all
# others first, otherwise as many as the width. With fewer, one odd latency decides; with more, the way to the right
# width is longer.
_LEAST_ROUND = 4
_LEAST_HELD = 8
# The mean latency of a round is known well enough once its standard error is at most this share of it, or after so many
# completions; while doubling, after so many times the least.
_ENOUGH_ERROR = 0.1
_MOST_HELD = 32
_MOST_ROUNDS = 4
# Twice the width stays if throughput may have risen by this share. Where a line only becomes longer, the first
# completions seem to show a rise by a third, because they have met a shorter one.
_DOUBLE_GAIN = 0.5
# A try holds so many more or fewer, as a share of the width. More stays if throughput has risen by this part of that
# share, fewer if it has fallen by no more than the rest of it.
_STEP_SHARE = 0.25
_STEP_GAIN = 0.5
# One alone stays if it has this part of the throughput: work for two cores may gain little more from threads.
_ALONE_SHARE = 0.9
# Latency that has grown by this factor, at one width, is more than noise if it is also clear of the error.
_SLOWER = 1.5
_CLEAR_ERRORS = 3.0
# Where items take turns, a round of the first search has so many times the width, so that those under way are a smaller
# part. With a larger number, the way to the right width is longer; with a smaller one, a line is taken for work that is
# done at once ("a loop" in benchmarks/waiting.py).
_TURNS = 3
# A width is held for so many rounds before another one is tried again: first, and after many tries that have failed.
_FIRST_PATIENCE = 4
_MOST_PATIENCE = 32
# The width rises only if at least this share of it was in use: a width that nobody uses says nothing.
_USED_SHARE = 0.7

_DOUBLING, _HOLDING, _TRYING = "doubling", "holding", "trying"


class WidthControl:
    """Finds the number of items that should be under way, from what completions tell.

    Args:
        most: the width is never larger; at least 1.
        known: the width that was found earlier; None to begin modestly.
        serial_seconds: mean seconds of an item that ran alone, if known, so that the first try can be judged by it.
        tries_one: whether one alone is tried where nothing has run alone and doubling does not help, because items at
            once may hold each other up.

    Attributes:
        width: how many items should be under way now.

    >>> control, now = WidthControl(8, serial_seconds=0.02), 0.0
    >>> for _ in range(200):  # a server that does not mind: each item takes 20 ms
    ...     now += 0.02 / control.width
    ...     control.add(now, 0.02, in_use=control.width)
    >>> control.width
    8
    """

    def __init__(
        self, most: int, *, known: int | None = None, serial_seconds: float | None = None, tries_one: bool = True
    ) -> None:
        self._most = max(1, most)
        self.width = min(self._most, START_WIDTH if known is None else max(1, known))
        self._mode = _DOUBLING if known is None else _HOLDING
        self._searches = known is None  # whether no width was held yet
        # The width that is left if the present one is no better, and its throughput in items per second.
        self._before = (1, 1.0 / serial_seconds if serial_seconds else 0.0)
        self._usual: tuple[float, float] | None = None  # while holding: the usual latency, and its error
        self._patience = self._left = _FIRST_PATIENCE
        self._upwards = True  # where the next try goes
        self._may_be_one = tries_one and not serial_seconds and known is None  # whether one alone is still to be tried
        self._left_out = 0 if known is not None else self.width - 1  # the first completions met an idle server
        self._busy_until = self._since = float("-inf")  # only completions that began later count for this round
        self._begin_round(self._since)

    @property
    def found(self) -> int:
        """The width to begin with the next time."""
        tried = self._mode == _TRYING or (self._mode == _DOUBLING and self._before[0] > 1)
        return self._before[0] if tried else self.width

    def limit(self, most: int) -> None:
        """Take in that the width must not be larger from now on, or may be as large as this again."""
        self._most = max(1, most)
        if self.width > self._most:
            self._hold(self._since, self._most)

    def add(
        self,
        at: float,
        seconds: float,
        *,
        in_use: int,
        items: int = 1,
        overloaded: bool = False,
        now: float | None = None,
    ) -> None:
        """Take in a completion.

        Args:
            at: when it was, in seconds.
            seconds: how long its items took in all, one after another.
            in_use: how many workers were busy until then, this one included. If they are more than the width, they
                began at another one, and so the completion does not count.
            items: number of items.
            overloaded: whether an item failed because whoever serves it has too much to do.
            now: when it is taken in, if that is later.
        """
        before = at - seconds < self._since  # it began at another width
        now = at if now is None else now
        if overloaded and not before:
            self._lose_patience()
            self._hold(now, self.width // 2)
            return
        if at > self._since:
            self._ended += items
            self._busy += max(0.0, at - max(at - seconds, self._busy_until))
            self._busy_until = max(at, self._busy_until)
        if before or in_use > self.width:
            return
        if self._left_out:
            self._left_out -= 1
            return
        latency = seconds / items
        self._n += 1
        self._in_use += in_use
        step = latency - self._mean
        self._mean += step / self._n
        self._squares += step * (latency - self._mean)
        if self._is_known():
            self._end_round(now)

    def _begin_round(self, since: float) -> None:
        self._since = since
        self._n = self._in_use = self._ended = 0
        self._mean = self._squares = self._busy = 0.0
        self._busy_until = since

    def _error(self) -> float:
        """Return the standard error of the round's mean latency, in seconds."""
        return float((self._squares / (self._n - 1) / self._n) ** 0.5)

    def _throughput(self) -> tuple[float, bool]:
        """Return the items a second, and whether they take turns, so that there are fewer than latencies say."""
        told = self.width / self._mean if self._mean > 0.0 else float("inf")
        ended = self._ended + 0.5 * self.width  # those under way are half done
        most = ended / self._busy if self._busy > 0.0 else float("inf")
        return min(told, most), most < told

    def _is_known(self) -> bool:
        """Say whether the round's mean latency is known well enough."""
        if self._mode == _DOUBLING:
            least = max(_LEAST_ROUND, self.width // 2)
            most = _MOST_ROUNDS * least
        elif self.width == 1 and self._mode == _TRYING:
            least, most = _LEAST_ROUND, 2 * _LEAST_ROUND  # each takes as long as a whole round of others
        else:
            least = max(_LEAST_HELD, self.width)
            most = max(_MOST_HELD, least)
        if self._n < least or (self._n < most and self._error() > _ENOUGH_ERROR * self._mean):
            return False
        return not self._searches or self._n >= _TURNS * self.width or not self._throughput()[1]

    def _end_round(self, at: float) -> None:
        used = self._in_use >= _USED_SHARE * self.width * self._n
        throughput, _ = self._throughput()
        if self._mode == _HOLDING:
            self._judge_held(at, throughput, used=used)
        elif not used and self.width > self._before[0]:
            self._begin_round(at)  # the try was none
        elif throughput > self._before[1] * self._asked():
            self._patience = _FIRST_PATIENCE
            if self.width < self._before[0]:
                self._hold(at, self.width)
            else:
                self._widen(at, throughput)
        elif self._mode == _DOUBLING and self._may_be_one and self._before[0] > 1:
            # Twice as many did not help; where nothing has run alone yet, perhaps nothing beyond one does.
            self._may_be_one, self._mode = False, _TRYING
            self._set(at, 1)
        else:
            if self._mode == _TRYING:
                self._lose_patience()
            self._hold(at, self._before[0])

    def _asked(self) -> float:
        """Return by what factor throughput must have changed for the try to stay."""
        before = self._before[0]
        if self._mode == _DOUBLING:
            # In doubt, it stays: with latencies that vary much, waiting for certainty would take longer than going on.
            # Where they vary because items take turns, that is certain from what has ended.
            counted = self._mean <= 0.0 or (self._searches and self._throughput()[1])
            doubt = 1.0 if counted else 1.0 + self._error() / self._mean
            return (1.0 + _DOUBLE_GAIN * min(1.0, self.width / before - 1.0)) / doubt
        if self.width == 1:
            return _ALONE_SHARE
        return 1.0 + _STEP_GAIN * (self.width - before) / before

    def _widen(self, at: float, throughput: float) -> None:
        """Try twice the width, or hold this one if it is the largest."""
        if self.width >= self._most:
            self._hold(at, self.width)
            return
        self._before = self.width, throughput
        self._mode = _DOUBLING
        self._set(at, 2 * self.width)

    def _hold(self, at: float, width: int) -> None:
        self._mode, self._usual, self._left = _HOLDING, None, self._patience
        self._searches = False
        self._set(at, width)

    def _judge_held(self, at: float, throughput: float, *, used: bool) -> None:
        """Back off if the server has become slower; else go on, or try another width."""
        latency, error = self._mean, self._error()
        if self._usual is None:
            self._usual = latency, error
        else:
            usual, its_error = self._usual
            if latency > max(_SLOWER * usual, usual + _CLEAR_ERRORS * (error**2 + its_error**2) ** 0.5):
                self._patience = 1
                self._hold(at, int(self.width * usual / latency))
                return
            self._usual = usual + 0.3 * (latency - usual), min(its_error, error)
        self._left -= 1
        if self._left > 0:
            self._begin_round(at)
            return
        step = max(1, int(self.width * _STEP_SHARE))
        upwards, self._upwards = self._upwards, not self._upwards
        wider = upwards and used and self.width < self._most
        if not wider and self.width == 1:
            self._begin_round(at)
            return
        self._before, self._mode = (self.width, throughput), _TRYING
        self._set(at, self.width + step if wider else self.width - step)

    def _lose_patience(self) -> None:
        self._patience = min(_MOST_PATIENCE, 2 * self._patience)

    def _set(self, at: float, width: int) -> None:
        self.width = max(1, min(self._most, width))
        self._begin_round(at)
