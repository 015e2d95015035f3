"""What can keep the stack from starting or stopping, each with what, where and the mend."""


class StackError(RuntimeError):
    """The stack cannot do what was asked; the message is a sentence for the person who asked."""


class PortTakenError(StackError):
    """A port that the stack needs belongs to another program."""


class NotReadyError(StackError):
    """A service did not come up, or ended while it should have."""
