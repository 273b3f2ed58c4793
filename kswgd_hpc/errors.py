"""Exceptions of the distributed solver; every message is one line that says what to change."""


class KswgdError(Exception):
    """Base of everything that this package raises on purpose."""


class ConfigurationError(KswgdError):
    """The configuration file: key, what is wrong, nearest valid choice."""


class DataError(KswgdError):
    """A file of the user's: missing, of the wrong shape, or with entries that are not finite."""


class SpectrumError(KswgdError):
    """An eigenproblem that could not be solved, with the solver's reason and a remedy."""


class TransportError(KswgdError):
    """A transport step that could not be taken."""


class ResumeError(KswgdError):
    """A checkpoint that this configuration cannot continue; known to all ranks together."""


class Interrupted(Exception):
    """The run was asked to stop and has saved what it had; raised on all ranks together."""


class MachineError(KswgdError):
    """Something about the installation or the launcher with which no run can be right."""
