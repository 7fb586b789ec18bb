"""What a scenario raises when the system under test did something else than it should."""


class Failure(Exception):
    """The message says what was expected and what was seen."""


def expect(condition, message):
    if not condition:
        raise Failure(message)


def expect_equal(seen, expected, what):
    if seen != expected:
        raise Failure(f"{what}: expected {shortened(expected)}, saw {shortened(seen)}")


def shortened(value, limit=600):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
