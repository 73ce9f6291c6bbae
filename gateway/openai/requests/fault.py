"""What is wrong with a field of a body."""

from gateway.errors import BadField


def fault(field: str, what: str, code: str = "invalid_value") -> BadField:
    """An error whose message begins with the field's name."""
    return BadField(field, f"'{field}' {what}", code)
