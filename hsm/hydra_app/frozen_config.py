"""Freezing the app's config files when the sweep is launched.

Jobs compose their own configs, perhaps hours later, when the files may have been edited. So the
launcher reads the files of the search path into memory before the first job, and every later
composition, in any process, reads them from there. That also saves each job reading and parsing the
same files.
"""

from __future__ import annotations

import copy
import importlib.resources
import io
import os
import pickle
import sysconfig
from collections import deque
from pathlib import Path, PurePosixPath
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import (
    ImportlibResourcesConfigSource,
)
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

from hsm.core.logger import get_logger
from hsm.core.program.hydra_script import is_output

log = get_logger(__name__)

#: A config_path of "." may have a whole disk below it. Beyond these limits, files are read when
#: they are needed.
_MAX_ENTRIES = 20_000
_MAX_BYTES = 64 << 20


def freeze(config_loader: ConfigLoader) -> None:
    """Make `config_loader` read every config file now, and never again. Idempotent."""
    repository = getattr(config_loader, "repository", None)
    if type(repository) is ConfigRepository:  # leave an app's own subclass alone
        config_loader.repository = FrozenRepository(repository)  # type: ignore[attr-defined]


def loaded_files(config_loader: ConfigLoader) -> dict[str, str]:
    """Return the texts of the config files that compositions have used so far, by path."""
    repository = getattr(config_loader, "repository", None)
    return repository.loaded_files() if isinstance(repository, FrozenRepository) else {}


class FrozenRepository(ConfigRepository):
    """A ConfigRepository over frozen sources. Copies share the files that were read."""

    def __init__(self, repository: ConfigRepository) -> None:
        self._frozen: dict[tuple[type, str, str], ConfigSource] = {}
        self.sources = [self._freeze(source) for source in repository.sources]

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Switch to the search path that hydra.searchpath names, in the config or an override."""
        super().initialize_sources(config_search_path)
        self.sources = [self._freeze(source) for source in self.sources]

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenRepository:
        # Hydra copies the repository for every composition and changes the sources of the copy.
        duplicate = copy.copy(self)
        duplicate.sources = list(self.sources)
        return duplicate

    def loaded_files(self) -> dict[str, str]:
        """See the function `loaded_files`."""
        files: dict[str, str] = {}
        for source in self._frozen.values():
            if isinstance(source, _FromSnapshot):
                files.update(source.loaded_files())
        return files

    def _freeze(self, source: ConfigSource) -> ConfigSource:
        kind = _FROZEN.get(class_name(type(source)))
        if kind is None:  # the ConfigStore, which is in memory anyway, or a source unknown to hsm
            return source
        key = (kind, source.provider, source.path)
        if key not in self._frozen:
            self._frozen[key] = kind(source.provider, f"{source.scheme()}://{source.path}")
        return self._frozen[key]


class _LoadedOnce(ConfigSource):
    """Loads each config once and hands out copies, since Hydra modifies what it gets."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path)
        self._loaded: dict[str, bytes] = {}  # pickled: several times faster to copy than deepcopy

    def load_config(self, config_path: str) -> ConfigResult:
        """Load the config at `config_path`; every call returns a new copy."""
        if config_path not in self._loaded:
            self._keep(config_path, super().load_config(config_path))  # type: ignore[safe-super]
        return self._copy(config_path)

    def _keep(self, config_path: str, result: ConfigResult) -> None:
        self._loaded[config_path] = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)

    def _copy(self, config_path: str) -> ConfigResult:
        result: ConfigResult = pickle.loads(self._loaded[config_path])
        return result


class _FromSnapshot(_LoadedOnce):
    """Answers from the snapshot; where the snapshot cannot tell, from Hydra's own source."""

    _snapshot: _Snapshot

    def loaded_files(self) -> dict[str, str]:
        """Return the texts of the files that were loaded, by path."""
        names = [_normal(self._normalize_file_name(path)) for path in self._loaded]
        root, files = self._snapshot.root, self._snapshot.files
        return {os.path.join(root, name): files[name] for name in names if name in files}

    def load_config(self, config_path: str) -> ConfigResult:
        """Load the config at `config_path`; every call returns a new copy."""
        name = self._normalize_file_name(config_path)
        text = self._snapshot.files.get(_normal(name))
        if text is None:
            if self._snapshot.knows(_normal(name)):
                raise ConfigLoadError(f"Config not found : {os.path.join(self.path, name)}")
            return super().load_config(config_path)
        if config_path not in self._loaded:
            file = io.StringIO(text)
            file.name = os.path.join(self._snapshot.root, name)  # for the parser's errors
            result = ConfigResult(
                config=OmegaConf.load(file),
                path=f"{self.scheme()}://{self.path}",
                provider=self.provider,
                header=ConfigSource._get_header_dict(text[:512]),
            )
            self._keep(config_path, result)
        return self._copy(config_path)

    def is_group(self, config_path: str) -> bool:
        """Whether there is a directory at `config_path`."""
        name = _normal(config_path)
        if self._snapshot.knows(name):
            return name in self._snapshot.directories
        return super().is_group(config_path)  # type: ignore[safe-super]

    def is_config(self, config_path: str) -> bool:
        """Whether there is a config file at `config_path`."""
        name = _normal(self._normalize_file_name(config_path))
        if self._snapshot.knows(name):
            return name in self._snapshot.files
        return super().is_config(config_path)  # type: ignore[safe-super]

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the configs and groups in the group at `config_path`."""
        group = _normal(config_path)
        if not self._snapshot.knows(group):
            return super().list(config_path, results_filter)  # type: ignore[safe-super]
        found: list[str] = []
        for name in (*self._snapshot.files, *self._snapshot.directories):
            parent, _, file_name = name.rpartition("/")
            if file_name and parent == group:
                self._list_add_result(
                    files=found,
                    file_path=os.path.join(config_path, file_name),
                    file_name=file_name,
                    results_filter=results_filter,
                )
        return sorted(set(found))


class FrozenFileSource(_FromSnapshot, FileConfigSource):
    """A ``file://`` source that answers from memory."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self._snapshot = _Snapshot(Path(self.path))


class FrozenPackageSource(_FromSnapshot, ImportlibResourcesConfigSource):
    """A ``pkg://`` source that answers from memory, unless the package is installed.

    Installed packages do not change during a sweep.
    """

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        directory = _package_directory(self.path)
        self._snapshot = _Snapshot(directory) if directory else _Snapshot.empty()


def _package_directory(name: str) -> Path | None:
    """Return the directory of an editable package; None for an installed one, or one in a zip."""
    try:
        directory = importlib.resources.files(name.replace("/", "."))
    except (ImportError, TypeError, ValueError):
        return None
    if not isinstance(directory, Path):
        return None
    installed = {sysconfig.get_path(scheme) for scheme in ("purelib", "platlib", "stdlib")}
    path = directory.resolve()
    return None if any(Path(place).resolve() in path.parents for place in installed) else directory


def class_name(kind: type) -> str:
    """Return the full name of a class.

    Hydra 1.3 executes the modules of its sources again when it looks for plugins, so a source may
    be of another class of the same name than the one that was imported before.
    """
    return f"{kind.__module__}.{kind.__qualname__}"


_FROZEN: dict[str, type[FrozenFileSource] | type[FrozenPackageSource]] = {
    class_name(FileConfigSource): FrozenFileSource,
    class_name(ImportlibResourcesConfigSource): FrozenPackageSource,
}


#: A directory to read: its name below the root, its path, and the identities of its ancestors.
_Place = tuple[str, str, frozenset[tuple[int, int]]]


class _Snapshot:
    """The YAML files and the directories below `root`, by relative path ("" for `root` itself).

    Leaves out hidden directories and the outputs of earlier runs, which are full of YAML files that
    are not configs.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, str] = {}
        self.directories: set[str] = set()
        self.is_complete = True
        self._left_out: set[str] = set()
        self._entries = self._bytes = 0
        pending: deque[_Place] = deque([("", str(root), frozenset())])
        while pending and self.is_complete:  # breadth first: configs are near the root, data deep
            pending.extend(self._read(*pending.popleft()))
            if self._entries > _MAX_ENTRIES or self._bytes > _MAX_BYTES:
                self.is_complete = False
                log.warning(
                    "%s is too large to read in advance: do not edit configs there while jobs wait",
                    root,
                )

    @classmethod
    def empty(cls) -> _Snapshot:
        """Make a snapshot that knows nothing about any name."""
        snapshot = cls(Path(os.devnull))
        snapshot.is_complete = False
        return snapshot

    def knows(self, name: str) -> bool:
        """Whether the snapshot can tell if there is a file or directory of this name."""
        if not (self.is_complete and self._left_out):
            return self.is_complete
        places = [name, *(parent.as_posix() for parent in PurePosixPath(name).parents)]
        return self._left_out.isdisjoint(places)

    def _read(self, name: str, path: str, above: frozenset[tuple[int, int]]) -> list[_Place]:
        try:
            status = os.stat(path)
            entries = list(os.scandir(path))
        except OSError:
            return []
        identity = (status.st_dev, status.st_ino)
        if identity in above:  # a link to an ancestor, which would never end
            return []
        self.directories.add(name)
        if name and is_output(entry.name for entry in entries):
            self._left_out.add(name)
            return []
        self._entries += len(entries)
        below = []
        for entry in entries:
            entry_name = f"{name}/{entry.name}" if name else entry.name
            if entry.is_dir():
                if not entry.name.startswith(".") and entry.name != "__pycache__":
                    below.append((entry_name, entry.path, above | {identity}))
            elif entry.name.endswith((".yaml", ".yml")):
                self._read_file(entry_name, entry.path)
        return below

    def _read_file(self, name: str, path: str) -> None:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError):
            self.is_complete = False  # a composition that needs it gets Hydra's own error
            return
        self._bytes += len(text)
        self.files[name] = text


def _normal(name: str) -> str:
    normal = os.path.normpath(name).replace(os.sep, "/") if name else ""
    return "" if normal == "." else normal
