from __future__ import annotations

from typing import Any, Callable, Optional


class Bars:
    """Shows the stages of a build as bars, one after the other, of a class with tqdm's interface."""

    def __init__(self, factory: Callable[..., Any]) -> None:
        self._factory = factory
        self._stage: Optional[str] = None
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage = stage
            self._bar = self._factory(total=total or None, desc=stage)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
