"""What hello says."""

from html import escape

WORDS = {"en": "Hello", "de": "Hallo", "fr": "Bonjour", "zh": "你好"}


def greet(name="", language="en"):
    """A greeting as HTML; the name is a visitor's and never trusted."""
    word = WORDS.get(language, WORDS["en"])
    return f"{word}, {escape(name.strip()[:40])}!" if name.strip() else f"{word}!"
