"""The one base class of every stage's configuration."""

from pydantic import BaseModel, ConfigDict


class StageConfig(BaseModel):
    """A stage's configuration: the same object is the YAML file, the command line and the run form.

    Frozen, so that a value that went into a cache key cannot change afterwards; an unknown key is
    refused, so that a misspelt option is never silently ignored. Every field carries a title, a
    description with its unit, and its bounds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
