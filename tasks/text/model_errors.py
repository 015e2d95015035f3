"""The error of a model file that cannot be used."""


class ModelError(ValueError):
    """A model file cannot be used; the message names it and says what is expected."""
