"""Exceptions of the numerics."""


class SpdeError(Exception):
    """Anything that `spde` refuses or cannot do; the message says what to change."""


class ExpressionError(SpdeError):
    """An expression that is malformed, unsafe or of the wrong kind."""


class BlowUpError(SpdeError):
    """A trajectory that left the finite numbers."""
