"""What hello says."""


def greet():
    return "Hello!"
