"""The errors of model files that cannot be used."""


class ModelError(ValueError):
    """A model file cannot be used; the message names it and says what is expected."""


class WeightsError(RuntimeError):
    """The weights that modelmill comes with are absent, or not those that it was released with."""
