"""What can go wrong with actors themselves."""


class ActorError(Exception):
    """A fault of the machinery, not of a request."""


class MailboxFull(ActorError):  # noqa: N818  (named for what happened, as in OTP)
    """A bounded mailbox took no more."""


class ActorDied(ActorError):  # noqa: N818  (named for what happened, as in OTP)
    """The actor died with the message in hand; whether it took effect is unknown."""


class ServiceFailed(ActorError):  # noqa: N818  (named for what happened, as in OTP)
    """Restarts did not help: the process must end with a non-zero code."""
