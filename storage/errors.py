"""What can go wrong between stages, each with what, where and the mend."""


class StorageError(Exception):
    """Base of everything the store refuses or cannot do."""


class ArtifactMissingError(StorageError):
    """An artifact is not in the store, or not whole."""


class ArtifactDamagedError(StorageError):
    """A committed file differs from what its manifest says."""


class UnstableInputError(StorageError):
    """A stage's input cannot be fingerprinted deterministically."""


class DiskFullError(StorageError):
    """No room was left while an artifact was written; nothing half-written can be found."""
