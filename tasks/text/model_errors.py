"""The errors of model files that cannot be used."""

from tasks.text.given_files import GivenFileError


class ModelError(GivenFileError):
    """A model file cannot be used; the message names it and says what is expected."""


class WeightsError(RuntimeError):
    """The weights that modelmill comes with are absent, or not those that it was released with."""
