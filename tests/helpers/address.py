"""The repository's address: one line of pyproject.toml, and wherever else it is told."""

from __future__ import annotations

import re

from helpers.docs import pages
from helpers.processes import REPOSITORY

PYPROJECT = REPOSITORY / "pyproject.toml"
README = REPOSITORY / "README.md"


def address() -> str:
    """Where the repository is."""
    (found,) = re.findall(r'^Homepage = "(.+)"$', PYPROJECT.read_text(), re.MULTILINE)
    return str(found)


def clone_commands(url: str) -> str:
    """How the README begins."""
    folder = url.rstrip("/").rsplit("/", 1)[1].removesuffix(".git")
    return f"git clone {url}\ncd {folder}\n"


def told_address() -> str:
    """The address that the README tells people to clone."""
    (found,) = re.findall(r"^git clone (\S+)$", README.read_text(), re.MULTILINE)
    return str(found)


def write_address() -> None:
    """Write the address wherever the one that the README tells stands."""
    old, new = told_address(), address()
    for path in (PYPROJECT, REPOSITORY / "CHANGELOG.md", *(page.path for page in pages())):
        text = path.read_text(encoding="utf-8")
        text = text.replace(clone_commands(old), clone_commands(new)).replace(old, new)
        path.write_text(text, encoding="utf-8")
