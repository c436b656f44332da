"""Optuna's samplers and pruners by their short names, without Optuna."""

from __future__ import annotations

from collections.abc import Mapping

#: By kind and short name, the name of the class.
CLASSES: Mapping[str, Mapping[str, str]] = {
    "sampler": {
        "tpe": "TPESampler",
        "random": "RandomSampler",
        "cmaes": "CmaEsSampler",
        "nsgaii": "NSGAIISampler",
        "nsgaiii": "NSGAIIISampler",
        "gp": "GPSampler",
        "qmc": "QMCSampler",
        "grid": "GridSampler",
        "bruteforce": "BruteForceSampler",
    },
    "pruner": {
        "median": "MedianPruner",
        "asha": "SuccessiveHalvingPruner",
        "hyperband": "HyperbandPruner",
        "patient": "PatientPruner",
        "threshold": "ThresholdPruner",
        "percentile": "PercentilePruner",
        "wilcoxon": "WilcoxonPruner",
        "nop": "NopPruner",
    },
}


def dotted_path(kind: str, name: str) -> str:
    """Where Optuna has the sampler or pruner of a short name."""
    return f"optuna.{kind}s.{CLASSES[kind][name]}"
