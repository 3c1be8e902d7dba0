"""hello: greets whoever comes by."""

from pathlib import Path
from string import Template

import greeting
import serving

PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def front_page(query):
    return 200, "text/html", PAGE.substitute(greeting=greeting.greet(query.get("name", "")), **serving.identity())


if __name__ == "__main__":
    serving.serve({"/": front_page})
