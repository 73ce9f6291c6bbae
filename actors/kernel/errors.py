"""Errors of the actor kernel.

ActorError
├── MailboxFull             a bounded mailbox took no more; the sender decides what that means
│   └── MailboxClosed       its actor has ended for good, or is down for a while
├── ActorDied               the actor died while it handled the message, or is off
├── RestartsExhausted       a group's restarts did not help; the supervisor above decides what that means
└── ServiceFailed           no restart can help: the process ends with a non-zero code
"""


class ActorError(Exception):
    """A fault of the machinery, not of a request."""


class MailboxFull(ActorError):  # noqa: N818  (named for what happened, as in OTP)
    """A bounded mailbox took no more."""


class MailboxClosed(MailboxFull):
    """No actor takes messages from this mailbox now."""


class ActorDied(ActorError):  # noqa: N818  (named for what happened, as in OTP)
    """The actor died while it handled the message; whether it took effect is unknown."""


class RestartsExhausted(ActorError):  # noqa: N818  (named for what happened, as in OTP)
    """A group of actors was restarted as often as its intensity allows, and one of them ended again."""


EXIT_STALLED = 70
"""Exit code of a process that ends because a part of it makes no progress."""


class ServiceFailed(ActorError):  # noqa: N818  (named for what happened, as in OTP)
    """No restart can help: the process must end with a non-zero code."""


class ServiceStalled(ServiceFailed):
    """A part that every request needs makes no progress, and only a new process helps."""
