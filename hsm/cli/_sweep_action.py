"""What `hsm sweep` does with a command line that has been read."""

from __future__ import annotations

import os
from dataclasses import replace

from hsm.cli._earlier import check_variables, find_earlier, from_there, recorded_settings
from hsm.cli._find import warn_of_problems
from hsm.cli._given import check_mode, given_settings, option_name
from hsm.cli._plan import Asked, Plan
from hsm.cli._points import AskedPoints
from hsm.cli._printing import end_with_the_reader, print_json
from hsm.cli._stdout import say
from hsm.cli._sweep_line import SweepLine
from hsm.core.command_line import join_command
from hsm.core.record.sweep import Sweep
from hsm.core.settings.args_style import check_args_style
from hsm.core.settings.resolve import LocalConf, Resolved, resolve_local
from hsm.display.text import from_here


def run_line(line: SweepLine) -> int:
    """Run a command line; return the exit code. Raises HsmError."""
    check_mode(line.mode)
    given = typed = given_settings(line.settings)
    config, script, hsm_config = line.config, line.script, line.hsm_config
    earlier = None
    if line.resume:
        here = os.getcwd()
        earlier = find_earlier(line.resume, hsm_config)
        config, script, hsm_config = (
            from_there(path, here) for path in (config, script, hsm_config)
        )
        if line.count_only or line.dry_run or line.detach:
            warn_of_problems(earlier)  # A launcher logs them itself.
        given = {**recorded_settings(earlier, typed), **given, "resume": True}
    resolved = resolve_local(given, argument_origin=option_name, hsm_config=hsm_config or None)
    if earlier is not None and not line.count_only:
        check_variables(earlier, resolved)
    style = check_args_style(line.args_style, "--args-style") if line.args_style else None
    points = AskedPoints.of(line, config).aiming_at(typed, resolved)
    asked = Asked(points, script, line.command, style, line.sweep_id, line.sweep_dir)
    if line.count_only:
        count = _count(asked, resolved, earlier)
        print_json({"jobs": count} if line.as_json else count)
        return 0
    plan = replace(asked.plan(resolved, earlier), origins=resolved.origins)
    for note in plan.notes:
        say(f"hsm: {note}", error=True)
    conf = replace(resolved.conf, **plan.goal)
    if line.dry_run:
        _list(plan, conf, line.as_json)
        return 0
    return _run(plan, conf, detach=line.detach, as_json=line.as_json)


def _count(asked: Asked, resolved: Resolved, earlier: Sweep | None) -> int:
    if earlier is None:
        return asked.count(resolved.hsm_config)
    return asked.plan(resolved, earlier).count()


def _run(plan: Plan, conf: LocalConf, *, detach: bool, as_json: bool) -> int:
    if detach:
        from hsm.cli._detach import run_detached

        _tell_notes(plan)
        run_detached(plan, conf, as_json)
        return 0
    from hsm.cli._launch import run

    return run(plan, conf, as_json=as_json)


def _tell_notes(plan: Plan) -> None:
    """Say how the jobs run, apart from what is printed for programs."""
    for note in plan.program.notes:
        say(f"hsm: {note}", error=True)


def _list(plan: Plan, conf: LocalConf, as_json: bool) -> None:
    end_with_the_reader()
    if not as_json:
        _tell_notes(plan)
    listed = 0
    for job in plan.jobs() if plan.study is None else plan.first_trials(_places(conf)):
        listed += 1
        if as_json:
            facts = {"job": job.num, "job_dir": job.directory, "command": job.command}
            print_json({**facts, "params": job.params}, indent=None)
        else:
            say(f"job {job.num} in {from_here(job.directory)}: {join_command(job.command)}")
    if plan.study is not None and not as_json and (more := plan.count() - listed) > 0:
        say(f"and {more} more to be chosen")


def _places(conf: LocalConf) -> int:
    """How many jobs start at once."""
    from hsm.core.local.places import with_places

    places: int = with_places(conf).max_parallel_jobs
    return places
