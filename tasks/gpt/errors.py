"""How a training run can end without a model."""


class ExportError(Exception):
    """A folder that cannot be read as a GPT-2, or a tokenizer that does not fit the model."""


class TrainingError(Exception):
    """The training process ended without a result; the message carries its last words."""


class TrainingKilledError(TrainingError):
    """A signal ended it: out of memory, a crash in native code, someone's kill."""


class TrainingHungError(TrainingError):
    """It showed no sign of life for the watchdog's time and was killed."""


class TrainingStoppedError(TrainingError):
    """It was asked to end, saved, and did: run again to go on."""


class TrainingHaltedError(TrainingError):
    """Its guard stopped it; the message says at which step and where the last good weights are."""
