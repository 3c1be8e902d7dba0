"""What hello says."""

from html import escape


def greet(name=""):
    """A greeting as HTML; the name is a visitor's and never trusted."""
    return f"Hello, {escape(name.strip()[:40])}!" if name.strip() else "Hello!"
