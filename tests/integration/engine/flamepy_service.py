"""A service as flamepy's users write it."""

from flamepy import service

instance = service.FlameInstance()


@instance.entrypoint
def count(word: str) -> tuple[str, object]:
    """The word, and what the session's common data says."""
    return word.upper(), instance.context()


if __name__ == "__main__":
    instance.run()
