"""Exceptions of the numerics."""


class SpdeError(Exception):
    """Anything that `spde` refuses or cannot do; the message says what to change."""


class ExpressionError(SpdeError):
    """An expression that is malformed, unsafe or of the wrong kind."""


class BlowUpError(SpdeError):
    """A trajectory that left the finite numbers: its number, and the step after which it had."""

    def __init__(self, message: str, trajectory: int, step: int):
        super().__init__(message)
        self.trajectory = trajectory
        self.step = step

    def __reduce__(self):
        return type(self), (*self.args, self.trajectory, self.step)
