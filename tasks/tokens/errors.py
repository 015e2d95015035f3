"""What the tokenizer, the encoder and the loader refuse: each says what, where and the mend."""


class TokensError(Exception):
    """Base of everything this subject refuses."""


class TokenizerError(TokensError):
    """A tokenizer that cannot be trained, read or used."""


class TooLittleTextError(TokensError):
    """The text does not suffice for the vocabulary or the sequence length; the message has both numbers."""


class CanaryError(TokensError):
    """The fast encoder gave other ids than the reference."""


class ChangedDataError(TokensError):
    """A saved position belongs to other data (or another order) than what is here."""
