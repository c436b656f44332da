"""Imports a Hydra plugin package as plugin discovery does, after all that Hydra itself loads.

    python -X importtime import_plugin.py hydra_plugins.NAME

Discovery imports every module whose name does not start with ``_``, at the start of every Hydra
application on the machine.
"""

from __future__ import annotations

import pkgutil
import sys


def import_public_modules(package_name: str) -> None:
    """Import a package and, below it, what plugin discovery would import."""
    __import__(package_name)  # unlike importlib.import_module, this is in the output of importtime
    package = sys.modules[package_name]
    for module in pkgutil.walk_packages(package.__path__, prefix=package_name + "."):
        if not module.name.rpartition(".")[2].startswith("_"):
            __import__(module.name)


if __name__ == "__main__":
    __import__("hydra._internal.hydra")
    import_public_modules("hydra._internal.core_plugins")
    import_public_modules(sys.argv[1])
