"""A script whose leading imports are done once, in a server of which each job is a fork.

    python -u <scratch>/<digest>-train.pyc …     started as a job would be, and then
      begin             notices what the imports do
      import numpy      the script's own leading imports
      serve             the server: it stays here. A fork of it that becomes a job goes on:
      args = parse()    the rest of the script

The fork leaves all calls of hsm's before it goes on, so a job has no frame of hsm's below its own,
and ends as the interpreter ends any script.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType

from hsm.core.program.kept_script import IF_CHANGED, KeptScript, first_statement
from hsm.core.program.leading_imports import LeadingImports, leading_imports

#: Where this process found hsm, in case that the script's interpreter does not.
_HSM_FOUND_IN = str(Path(__file__).parents[__name__.count(".")])

#: What runs before the script's first statement. hsm is imported before the script's directory is
#: in the path, in which anything may be named so.
_BEGIN = """\
import sys
import _frozen_importlib_external as importer
words, file, directory, stamp, source = facts
found_in = {found_in!r}
sys.path += found_in
from hsm.core.local import warm_server
del sys.path[-len(found_in):]
main["__file__"] = file
main["__loader__"] = importer.SourceFileLoader("__main__", file)
safe_path = getattr(sys.flags, "safe_path", sys.flags.isolated)
warm_server.begin(words, None if safe_path else directory)
"""
#: What runs after the leading imports. In a job it goes on, and puts the script's path aside while
#: it imports something itself.
_SERVE = """\
import os, sys
import _frozen_importlib_external as importer
from hsm.core.local import warm_server
words, file, directory, stamp, source = facts
kept, usual_path = warm_server.serve(main, directory)
own_path = sys.path[:]
sys.path[:] = usual_path
{if_changed}
sys.path[:] = own_path
"""


class WarmScript:
    """A script, and its leading imports.

    Args:
        script: the script.
        trusts: see `leading_imports`.

    Attributes:
        imports: what is known of them; None until the script is kept.
    """

    def __init__(self, script: KeptScript, *, trusts: bool) -> None:
        self.script = script
        self._trusts = trusts
        self.imports: LeadingImports | None = None

    def keep(self, directory: Path) -> Path | None:
        """Keep the script, with what makes it a server, in `directory`.

        Returns:
            The file; None if Python cannot compile the script.

        Raises:
            OSError: it cannot be kept there.
        """
        return self.script.keep_with(self._own_code, directory)

    def _own_code(self, body: Sequence[ast.stmt]) -> Mapping[int, CodeType]:
        imports = leading_imports(body, self.script.directory, trusts=self._trusts)
        self.imports = imports
        begin = _BEGIN.format(found_in=[_HSM_FOUND_IN, *sys.path])
        serve = _SERVE.format(if_changed=IF_CHANGED)
        first = first_statement(body)
        if imports.end <= first:
            return {first: compile(f"{begin}{serve}", "<hsm>", "exec")}
        return {
            first: compile(begin, "<hsm>", "exec"),
            imports.end: compile(serve, "<hsm>", "exec"),
        }
