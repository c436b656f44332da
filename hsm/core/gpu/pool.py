"""Which job has which GPU, and what a job waits for that gets none.

    take --GpuGrant--> a job runs --> give_back --> the GPU settles --> its lock is given back

A job gets all the GPUs that it needs at once, or none. In its way may be other jobs of this sweep,
what the last one has left behind, processes of others, or other sweeps (`GpuLocks`).

An admission asks in rounds: `begin_round`, `take` for one job after another in the order of their
turns, `end_round` when none of them could start.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from hsm.core.gpu.block import Block, Why
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.gpu_sight import Lookout, Sight
from hsm.core.gpu.gpu_state import GpuState
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.locks import GpuLocks
from hsm.core.gpu.need import GpuNeed
from hsm.core.gpu.turns import Turns
from hsm.core.gpu.view import Watching
from hsm.core.gpu.visible import FoundGpus
from hsm.core.gpu.why_not import Refusals, refuse, too_few
from hsm.core.settings.resolve import GpuBusy, LocalConf

_NOTHING: Mapping[str, str] = {}


class GpuPool:
    """The GPUs of one source. Not thread-safe: the admission calls it under its lock. Never blocks.

    Args:
        found: all GPUs there are, whatever `gpu_ids` says.
        conf: the settings.
        watch: looks at them; None if nobody can.
        locks: keeps other sweeps away.
        choose: finds GPUs by what people call them; raises SettingsError.
        news: lines for people, to which other threads may add.
        clock: the time, in monotonic seconds.

    Attributes:
        found: as above.
        watch, choose: as above.
    """

    def __init__(
        self,
        found: FoundGpus,
        conf: LocalConf,
        *,
        watch: Watching | None = None,
        locks: GpuLocks,
        choose: Callable[[Sequence[int | str]], Collection[Gpu]],
        news: deque[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.found = found
        self.watch = watch
        self._locks = locks
        self._turns = Turns(locks)
        self.choose = choose
        self._clock = clock
        self._settle_seconds = conf.gpu_settle
        self._waits = conf.gpu_busy is GpuBusy.wait
        self._states = [GpuState(gpu) for gpu in found.gpus]
        self._news = deque[str]() if news is None else news
        self._told_trouble = False
        self._lookout = Lookout(watch, clock)
        self._refused = Refusals(conf.gpu_wait)
        if conf.gpu_ids is not None:
            self.restrict(conf.gpu_ids)

    # --- asking ---

    @property
    def is_gone(self) -> str:
        """Why no job can have a GPU any more, in one line; empty if some can."""
        allowed = [state for state in self._states if state.is_allowed]
        if not allowed or any(not state.out for state in allowed):
            return ""
        return "no GPU is left: " + "; ".join(f"{state}: {state.out}" for state in allowed)

    def lacking(
        self, need: GpuNeed, avoid: Collection[str] = (), *, kept: Mapping[str, str] = _NOTHING
    ) -> str:
        """What a job waits for, for people; empty if it can start, as far as is known.

        Args:
            need: what it needs.
            avoid: tokens of GPUs that it does not get while there are others.
            kept: GPUs that are kept for other jobs: for whom, in words, by key.
        """
        sight = self._refresh()
        usable = self._usable(need, avoid)
        if len(usable) < need.count:
            return too_few(need, len(usable), self._states).text
        blocks = self._blocks(usable, need, sight, kept)
        for state, block in blocks.items():
            if block is None or not state.grants:
                blocks[state] = self._turns.others.get(state.gpu.key, block)
        if sum(block is None for block in blocks.values()) >= need.count:
            return ""
        return refuse(need, blocks).text

    def looks_again(self) -> bool:
        """Whether a job of the last round may get GPUs although none has been given back."""
        return self._refused.looks_again()

    def gives_up(self) -> str:
        """Why jobs are to wait for GPUs no longer, in one line; empty if they may."""
        return self.is_gone or self._refused.gives_up(self._clock())

    @property
    def allowed(self) -> tuple[Gpu, ...]:
        """The GPUs that jobs may have from now on."""
        return tuple(state.gpu for state in self._states if _is_usable(state))

    @property
    def grants(self) -> list[GpuGrant]:
        """What jobs have now, each once."""
        return list(dict.fromkeys(grant for state in self._states for grant in state.grants))

    def others(self) -> dict[str, str]:
        """What else is to be said of GPUs, in words for people, by `Gpu.key`."""
        sight = self._refresh()
        said = {}
        for state in self._states:
            text = state.described(sight)
            if not state.grants and (other := self._turns.others.get(state.gpu.key)) is not None:
                text = other.described()
            if text:
                said[state.gpu.key] = text
        return said

    def job_ended(self, grant: GpuGrant) -> None:
        """The processes of a job are gone: note in its grant what is known of its use. Thread-safe.

        To be called before that is recorded; the GPUs stay the job's until `give_back`.
        """
        if self.watch is not None:
            self.watch.job_ended(grant)

    def news(self) -> list[str]:
        """What people should know and have not been told, in lines."""
        if self._locks.trouble and not self._told_trouble:
            self._told_trouble = True
            self._news.append(self._locks.trouble)
        lines = []
        while self._news:
            lines.append(self._news.popleft())
        return lines

    # --- giving GPUs to jobs ---

    def begin_round(self) -> None:
        """Jobs ask for GPUs, one after another, in the order of their turns."""
        self._refused.clear()
        self._turns.begin_round()

    def end_round(self) -> None:
        """None of them can start."""
        self._turns.end_round()
        has_any = any(state.grants for state in self._states)
        if line := self._refused.end(self._clock(), has_any=has_any):
            self._news.append(line)

    def stop_waiting(self) -> None:
        """No job waits for GPUs any more, or none could start if it had them."""
        self.begin_round()
        self.end_round()

    def take(
        self,
        job: int,
        need: GpuNeed,
        avoid: Collection[str] = (),
        *,
        kept: Mapping[str, str] = _NOTHING,
        is_late: bool = False,
        sweep: str = "",
    ) -> GpuGrant | None:
        """Give a job its GPUs, if all are there.

        Args:
            job: its number.
            need: what it needs.
            avoid, kept: see `lacking`.
            is_late: whether smaller jobs, of other sweeps too, have passed it for too long.
            sweep: the id of its sweep, for people.

        Returns None if they are not.
        """
        self._lookout.begin()
        sight = self._refresh()
        usable = self._usable(need, avoid)
        if len(usable) < need.count:
            self._refused.add(too_few(need, len(usable), self._states))
            return None
        blocks = self._blocks(usable, need, sight, kept)
        self._locks.sweep = sweep
        # Waiting for several leaves some unused: only if it has waited long, or the sweep has none.
        keeps = is_late or need.count == 1 or not any(state.grants for state in self._states)
        keys = self._claim(need, blocks, sight, keeps=keeps)
        chosen = [state for key in keys for state in usable if state.gpu.key == key]
        if not chosen:
            self._refused.add(refuse(need, blocks))
            if any(map(_is_old, blocks.values())):
                self._lookout.ask(sight)
            return None
        grant = GpuGrant(job, need, tuple(state.gpu for state in chosen))
        for state in chosen:
            state.take(grant, sight)
        self._refused.started()
        if self.watch is not None:
            self.watch.job_began(grant)
        return grant

    def _claim(
        self, need: GpuNeed, blocks: dict[GpuState, Block | None], sight: Sight, *, keeps: bool
    ) -> list[str]:
        """The keys of the GPUs to take, whose locks are held; adds other sweeps to `blocks`."""
        free, perhaps = list[GpuState](), list[GpuState]()
        for state, block in blocks.items():
            # Since another sweep has given it back, nobody has looked.
            is_stale = not (sight.is_blind or state.grants) and state.gpu.key in self._turns.others
            if block is None and not is_stale:
                free.append(state)
            elif block is None or _may_be_locked(state, block):
                perhaps.append(state)
        free.sort(key=lambda state: state.room_left(need, sight))
        # Too few are asked for all the same: what other sweeps have can be kept for a job, too.
        keys = self._turns.claim(
            need.count,
            [state.gpu.key for state in free],
            {state.gpu.key: _is_old(blocks[state]) for state in perhaps},
            sight.now,
            keeps=keeps,
        )
        for state in () if keys else (*free, *perhaps):
            if state.gpu.key in self._turns.freed:
                state.outdate(sight)
                blocks[state] = state.block(need, sight, waits=self._waits)
            blocks[state] = self._turns.others.get(state.gpu.key, blocks[state])
        return keys

    def give_back(self, grant: GpuGrant) -> None:
        """A job has ended. Its GPUs can be given to others once they have settled."""
        self.job_ended(grant)
        sight = self._lookout.sight()
        for state in self._states:
            if grant in state.grants:
                state.give_back(grant, sight)
        self._refresh()
        self._lookout.ask(sight)

    def keep(
        self, need: GpuNeed, avoid: Collection[str], kept: Mapping[str, str]
    ) -> frozenset[str]:
        """The keys of the GPUs to keep for a job that was passed for too long.

        That is as many as it needs, those that will be free first; none if what it waits for is not
        for jobs of sweeps to give.

        Args:
            need, avoid, kept: see `lacking`.
        """
        sight = self._refresh()
        blocks = self._blocks(self._usable(need, avoid), need, sight, kept)
        order = (None, Why.unseen, Why.settles, Why.delay, Why.ours, Why.tight)
        ranks: dict[GpuState, int] = {}
        for state, block in blocks.items():
            why = None if block is None else block.why
            other = None if state.grants else self._turns.others.get(state.gpu.key)
            # What is seen on a GPU that another sweep has is that sweep's.
            is_theirs = other is not None and (other.why is Why.locked or why in order)
            if is_theirs and why is not Why.kept:
                ranks[state] = len(order)
            elif why in order:
                ranks[state] = order.index(why)
        if len(ranks) < need.count:
            return frozenset()
        soonest = sorted(ranks, key=lambda state: (ranks[state], state.last_start))
        return frozenset(state.gpu.key for state in soonest[: need.count])

    def look(self) -> None:
        """There has been a look at the GPUs: give those back that have settled."""
        sight = self._refresh()
        if any(state.settling is not None for state in self._states):
            self._lookout.ask(sight)

    # --- which GPUs there are ---

    def restrict(self, ids: Sequence[int | str] | None) -> None:
        """Give jobs only these GPUs from now on; jobs that run keep theirs.

        Args:
            ids: their numbers, or beginnings of their own names; None for all.

        Raises:
            SettingsError: one is not there.
        """
        gpus = self.found.gpus if ids is None else self.choose(ids)
        keys = {gpu.key for gpu in gpus}
        for state in self._states:
            state.is_allowed = state.gpu.key in keys

    def leave_out(self, gpu: Gpu, why: str) -> None:
        """Give no job this GPU from now on, and tell people so.

        Args:
            gpu: the GPU.
            why: the reason, in a few words; empty to use it again.
        """
        for state in self._states:
            if state.gpu.key == gpu.key and bool(state.out) != bool(why):
                state.out = why
                self._news.append(
                    f"{state} is left out: {why}" if why else f"{state} is used again"
                )

    def when_seen(self, call: Callable[[], object]) -> None:
        """Have this called after each look at the GPUs, in a thread of the watch."""
        if self.watch is not None:
            self.watch.changed = call

    def close(self) -> None:
        """Give all GPUs back, and end the watch. Idempotent."""
        self._locks.close()
        if self.watch is not None:
            self.watch.close()

    # --- within ---

    def _refresh(self) -> Sight:
        """See what is known now, which GPUs are lost, and which have settled."""
        sight = self._lookout.sight()
        for state in self._states:
            if not state.out and (fault := state.fault(sight)):
                self.leave_out(state.gpu, fault)
            if line := state.settle(sight, self._settle_seconds):
                self._news.append(line)
        idle = [each for each in self._states if not each.grants and each.settling is None]
        self._locks.release(state.gpu.key for state in idle)
        return sight

    def _usable(self, need: GpuNeed, avoid: Collection[str]) -> list[GpuState]:
        usable = [each for each in self._states if _is_usable(each) and each.can_ever(need)]
        others = [state for state in usable if state.gpu.token not in avoid]
        return others if len(others) >= need.count else usable

    def _blocks(
        self, usable: Iterable[GpuState], need: GpuNeed, sight: Sight, kept: Mapping[str, str]
    ) -> dict[GpuState, Block | None]:
        """Why a job cannot start on each of these, but for other sweeps."""
        return {
            state: Block(Why.kept, f": kept for {kept[state.gpu.key]}")
            if state.gpu.key in kept
            else state.block(need, sight, waits=self._waits)
            for state in usable
        }


def _is_usable(state: GpuState) -> bool:
    return state.is_allowed and not state.out


def _is_old(block: Block | None) -> bool:
    return block is not None and block.is_old


def _may_be_locked(state: GpuState, block: Block | None) -> bool:
    is_unknown = block is not None and block.why in (Why.foreign, Why.unseen)
    return is_unknown and not state.grants and state.settling is None
