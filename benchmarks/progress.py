"""How far a long measurement has come."""

import sys
import time

__all__ = ["Progress"]


class Progress:
    """Say on standard error how far it has come: all the time on a terminal, else now and then."""

    def __init__(self) -> None:
        self.start = self.shown = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def say(self, line: str, last: bool = False) -> None:
        live, now = sys.stderr.isatty(), time.perf_counter()
        if last or now - self.shown > (0.2 if live else 30.0):
            self.shown = now
            begin, end = chr(13) * live, "\n" if last or not live else ""
            print(f"{begin}{line}, {self.seconds:,.0f} s", end=end, file=sys.stderr, flush=True)
