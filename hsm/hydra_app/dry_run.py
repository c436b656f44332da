"""Composing and listing all jobs of a sweep, and running none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hsm.core.printable import printable


def dry_run(
    jobs: Iterable[Sequence[str]], compose: Callable[[Sequence[str]], object], to_come: int = 0
) -> int:
    """Print a line for each job as soon as its config is composed, and one that sums up.

    Args:
        jobs: the overrides of each.
        compose: composes a job's config; raises an exception if that fails.
        to_come: how many more there would be, which nobody knows yet.

    Returns how many configs do not compose.
    """
    count = broken = 0
    for num, overrides in enumerate(jobs):
        count += 1
        line = f"job {num} ({' '.join(overrides)})"
        try:
            compose(overrides)
        except Exception as error:  # Hydra's, OmegaConf's, or a resolver's of the app
            broken += 1
            reason = " ".join(str(error).split()) or type(error).__name__
            line += f" does not compose: {reason}"
        print(printable(line), flush=True)
    what = f"{count} job{'s' * (count != 1)}"
    ends = f"{broken} of them cannot run" if broken else "all of them compose"
    if to_come:
        what += f", and {to_come} more to be chosen"
    print(f"{what}, {ends}; dry_run: nothing was run" if count else "no jobs", flush=True)
    return broken
