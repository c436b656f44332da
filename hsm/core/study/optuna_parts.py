"""Optuna's samplers, pruners and storages, made of what was written.

    tpe    {name: tpe, multivariate: true}    {_target_: optuna.samplers.TPESampler}    an object

What was not said is not passed on, so Optuna's own defaults hold. A null means that nothing was
said, and so do the defaults that hydra-optuna-sweeper's nodes have for every keyword.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, cast

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from hsm.core.errors import SettingsError, did_you_mean, shown
from hsm.core.study.importing import import_path
from hsm.core.study.optuna_classes import CLASSES

#: Packages that Optuna's classes need and do not ask for, and how to get them.
_NEEDED = {
    "CmaEsSampler": {"cmaes": "pip install 'hpc-sweep-manager[optuna]'"},
    "QMCSampler": {"scipy": "pip install 'hpc-sweep-manager[qmc]'"},
    "GPSampler": {"scipy": "pip install scipy", "torch": "pip install torch"},
    "WilcoxonPruner": {"scipy": "pip install 'hpc-sweep-manager[qmc]'"},
}
#: What hydra-optuna-sweeper's nodes name, and what that makes.
_FACTORIES = {
    "hydra_plugins.hydra_optuna_sweeper._impl.create_nsgaii_sampler": "NSGAIISampler",
    "hydra_plugins.hydra_optuna_sweeper._impl.create_nsgaiii_sampler": "NSGAIIISampler",
}
_REMOVED = (
    "hydra_plugins.hydra_optuna_sweeper.config.raise_motpe_removed",
    "optuna.samplers.MOTPESampler",
)
#: All keywords of its nodes with their defaults, by the class that they are for.
_NODES: Mapping[str, Mapping[str, Any]] = {
    "TPESampler": {
        "consider_prior": True, "prior_weight": 1.0, "consider_magic_clip": True,
        "consider_endpoints": False, "n_startup_trials": 10, "n_ei_candidates": 24,
        "multivariate": False, "warn_independent_sampling": True,
    },
    "CmaEsSampler": {
        "x0": None, "sigma0": None, "n_startup_trials": 1, "independent_sampler": None,
        "warn_independent_sampling": True, "consider_pruned_trials": False,
        "restart_strategy": None, "inc_popsize": (2, -1), "use_separable_cma": False,
    },
    "NSGAIISampler": {
        "population_size": 50, "mutation_prob": None, "crossover_prob": 0.9, "swapping_prob": 0.5,
    },
    "NSGAIIISampler": {
        "population_size": 50, "mutation_prob": None, "crossover_prob": 0.9, "swapping_prob": 0.5,
        "dividing_parameter": 3,
    },
    "GPSampler": {"n_startup_trials": 10, "deterministic_objective": False},
    "QMCSampler": {"qmc_type": "sobol", "scramble": False, "warn_asynchronous_seeding": True},
}  # fmt: skip
#: Its keywords that came later, which a node need not have.
_LATER = {
    "group": False, "constant_liar": False, "constraints_func": None, "source_trials": None,
    "with_margin": False, "lr_adapt": False, "popsize": None, "warn_independent_sampling": True,
}  # fmt: skip
_MARKS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
#: Keywords whose values are samplers and pruners themselves.
_NESTED = {
    "independent_sampler": "sampler", "base_sampler": "sampler", "wrapped_pruner": "pruner",
}  # fmt: skip


class Part:
    """A sampler or pruner that can be made.

    Args:
        kind: "sampler" or "pruner".
        value: what was written.
        origin: where, for messages.

    Attributes:
        maker: the class, or a function; None if there is an object already.
        keywords: what was said for it.

    Raises:
        SettingsError: there is no such thing, or no such keyword, or a package is missing.
    """

    def __init__(self, kind: str, value: Any, origin: str) -> None:
        self.kind, self.value, self.origin = kind, value, origin
        self.maker: Callable[..., Any] | None = None
        self.keywords: dict[str, Any] = {}
        self._wanted: type = BaseSampler if kind == "sampler" else BasePruner
        is_made = isinstance(value, self._wanted)
        self.made: Any = value if is_made else None
        if not is_made:
            self._read(value)
        self._check_packages()

    @property
    def name(self) -> str:
        """The name of its class."""
        maker = self.maker
        return str(getattr(maker, "__name__", maker)) if maker else type(self.made).__name__

    def make(self, **more: Any) -> Any:
        """Make it, with `more` keywords, as far as it knows them and they were not said."""
        if self.maker is None:
            return self.made
        known = _parameters(self.maker)
        keywords = {name: it for name, it in more.items() if known is None or name in known}
        keywords.update({name: self._built(name, it) for name, it in self.keywords.items()})
        if known is not None and "wrapped_pruner" in known:
            keywords.setdefault("wrapped_pruner", None)  # which Optuna itself wants to be told
        if "reference_points" in keywords and isinstance(keywords["reference_points"], list):
            import numpy

            keywords["reference_points"] = numpy.asarray(keywords["reference_points"], float)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                made = self.maker(**keywords)
        except Exception as error:
            message = f"{self.origin}: cannot make the {self.kind} {self.name}: {error}"
            raise self._error(keywords, "one that Optuna can make", message) from error
        if not isinstance(made, self._wanted):
            message = f"{self.origin}: {shown(self.value)} makes no {self.kind} of Optuna's"
            raise self._error(self.value, f"a {self.kind} of Optuna's", message)
        return made

    def _read(self, value: Any) -> None:
        if isinstance(value, str):
            self.maker = self._named(value)
        elif isinstance(value, Mapping):
            target = value.get("_target_") or value.get("name")
            self.maker = self._named(target)
            given = {
                k: v
                for k, v in value.items()
                if k not in (*_MARKS, "name") or (k == "name" and "_target_" in value)
            }
            self.keywords = self._said(given)
        elif isinstance(value, functools.partial) and not value.args:
            self.maker, self.keywords = value.func, self._said(value.keywords)
        elif isinstance(value, type):
            self.maker = value
        else:
            raise self._unknown(value)
        self._check_keywords()

    def _said(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The keywords without those of which nobody said anything."""
        node = _NODES.get(self.name, {})
        is_node = bool(node) and all(name in given for name in node)
        defaults = {**_LATER, **node} if is_node else {}
        return {
            name: value
            for name, value in given.items()
            if value is not None
            and not _is_default(value, defaults.get(name, value), name in defaults)
        }

    def _named(self, name: Any) -> Callable[..., Any]:
        names = CLASSES[self.kind]
        module = optuna.samplers if self.kind == "sampler" else optuna.pruners
        if name in _REMOVED or name == "motpe":
            message = f"{self.origin}: Optuna has no MOTPESampler any more: use tpe instead"
            raise self._error(name, "tpe", message)
        if isinstance(name, str) and name in names:
            return cast("Callable[..., Any]", getattr(module, names[name]))
        if isinstance(name, str) and name in _FACTORIES:
            return cast("Callable[..., Any]", getattr(module, _FACTORIES[name]))
        if isinstance(name, str) and "." in name:
            return self._imported(name)
        raise self._unknown(name)

    def _unknown(self, value: Any) -> SettingsError:
        names = CLASSES[self.kind]
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        allowed = f"one of {', '.join(names)}, or a {self.kind} of Optuna's, such as a _target_"
        tail = f"; {hint}" if hint else ""
        message = f"{self.origin}: {self.kind} must be {allowed}, not {shown(value)}{tail}"
        return SettingsError(self.kind, value, self.origin, allowed, hint, message=message)

    def _imported(self, path: str) -> Callable[..., Any]:
        try:
            found = import_path(path)
        except Exception as error:
            message = f"{self.origin}: cannot import the {self.kind} {path}: {error}"
            raise self._error(path, "a dotted path that can be imported", message) from None
        if not callable(found):
            message = f"{self.origin}: {path} is no class or function that makes a {self.kind}"
            raise self._error(path, "a class or a function", message)
        return cast("Callable[..., Any]", found)

    def _built(self, name: str, value: Any) -> Any:
        if name in _NESTED and isinstance(value, str | Mapping):
            return Part(_NESTED[name], value, f"{self.origin}: {name}").make()
        return build(value, self.origin)

    def _check_packages(self) -> None:
        for package, remedy in _NEEDED.get(self.name, {}).items():
            if find_spec(package) is None:
                message = f"{self.origin}: {self.name} needs the package {package}: {remedy}"
                raise self._error(self.value, "one whose packages are installed", message)

    def _check_keywords(self) -> None:
        assert self.maker is not None
        known = _parameters(self.maker)
        for name in self.keywords:
            if known is not None and name not in known:
                hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
                message = f"{self.origin}: {self.name} has no {name}; {hint}"
                raise self._error(name, "a keyword of it", message)

    def _error(self, value: Any, allowed: str, message: str) -> SettingsError:
        return SettingsError(self.kind, value, self.origin, allowed, message=message)


def _is_default(value: Any, default: Any, is_known: bool) -> bool:
    if not is_known:
        return False
    return value in default if isinstance(default, tuple) else bool(value == default)


def _parameters(maker: Callable[..., Any]) -> list[str] | None:
    """The keywords that it takes; None if it takes any."""
    try:
        parameters = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return [each.name for each in parameters if each.kind is not each.POSITIONAL_ONLY]


def build(value: Any, origin: str) -> Any:
    """Make what nodes with ``_target_`` stand for, in mappings and lists as well.

    Raises:
        SettingsError: it cannot be made.
    """
    if isinstance(value, Mapping):
        built = {key: build(item, origin) for key, item in value.items()}
        if "_target_" not in built:
            return built
        target = built["_target_"]
        try:
            maker = import_path(target)
            arguments = built.get("_args_") or ()
            keywords = {key: item for key, item in built.items() if key not in _MARKS}
            made = functools.partial(maker, *arguments, **keywords)
            return made if built.get("_partial_") else made()
        except Exception as error:
            message = f"{origin}: cannot make {shown(target)}: {error}"
            allowed = "a dotted path of what can be made"
            raise SettingsError("_target_", target, origin, allowed, message=message) from error
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [build(item, origin) for item in value]
    return value
