"""What values of options must be; imported by every command, so it imports nothing."""


def require_positive(config: object, *names: str) -> None:
    """Raises ValueError, one line, for the first of these fields that is given and not above 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be positive")
