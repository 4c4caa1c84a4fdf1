"""The one tree of exceptions that nst raises on purpose, each with the exit code that the commands end with."""


class NstError(Exception):
    """Something went wrong that a user can understand. The message is one line: what is wrong, what to do next."""

    exit_code = 1


class ConfigError(NstError):
    """An option, a path or a picture given by the user cannot be used."""

    exit_code = 2


class StyleError(NstError):
    """An exported style is missing, broken, or breaks the contract."""

    exit_code = 2


class CameraError(NstError):
    """A source that had opened broke off, and opening it again does not help."""


class SinkError(NstError):
    """A place for frames is beyond repair."""
