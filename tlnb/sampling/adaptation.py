"""What chains learn during warm-up: the step of the leapfrog."""

from __future__ import annotations

import numpy as np

TARGET_ACCEPTANCE = 0.8


class StepSize:
    """Dual averaging of ln ε towards an acceptance of 0.8 (Hoffman and Gelman 2014)."""

    def __init__(self, initial: float, largest: float) -> None:
        self.centre, self.largest = np.log(10 * initial), np.log(largest)
        self.error, self.averaged, self.count = 0.0, np.log(initial), 0
        self.current = initial

    def update(self, acceptance: float) -> None:
        """Learn from the mean acceptance of one step."""
        self.count += 1
        weight = 1 / (self.count + 10)
        self.error += weight * (TARGET_ACCEPTANCE - acceptance - self.error)
        log_step = min(self.centre - np.sqrt(self.count) / 0.05 * self.error, self.largest)
        decay = self.count**-0.75
        self.averaged += decay * (log_step - self.averaged)
        self.current = float(np.exp(log_step))

    @property
    def final(self) -> float:
        """The averaged step, to be kept after warm-up."""
        return float(np.exp(self.averaged))
