"""The apps that composing.py composes, each of another shape, and what may be overridden of them.

Most leave out much of Hydra's own config, which costs most of the time; `hydra` has it all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import _composing_schemas as schemas

#: The apps' files: each text has those of one app, each after a line "== path".
_FOLDER = Path(__file__).parent / "apps" / "composing"


@dataclass(frozen=True, eq=False)
class App:
    """An app, with all that a set may say.

    Attributes:
        groups: overrides that change which configs are composed, and how they are packaged.
        values: overrides of values.
        wrong: overrides that mostly raise.
        keys: keys that get random values.
        masters: sweeps that a set may be of: a config's name, and the sweep's overrides.
        environment: variables, and the values that they may have.
        version_base: as hydra.main gets it.
        prepare: called before the first composition; fills the ConfigStore, say.
        hydra: the first Hydra that has it all.
        before: the first one that no longer has it.
    """

    name: str
    groups: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    masters: tuple[str, ...] = ("config",)
    environment: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    version_base: str | None = "1.3"
    prepare: Callable[[], None] = schemas.nothing
    hydra: tuple[int, int] = (1, 3)
    before: tuple[int, int] = (2, 0)

    def write_files(self, folder: Path) -> None:
        """Write its files; FOLDER stands for the folder in their texts."""
        text = (_FOLDER / f"{self.name}.txt").read_text(encoding="utf-8")
        for part in text.replace("FOLDER", os.fspath(folder)).split("== ")[1:]:
            name, _, content = part.partition("\n")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


PLAIN = App(
    name="plain",
    groups=("hydra/job_logging=none", "hydra/job_logging=disabled"),
    values=_lines("""
        nested.a.b=2
        nested.a.c=[9]
        nested.a.c.2.d=4
        ++nested.a.new.deep=1
        nested.ref.b=5
        nested.up=0
        box.a.b=7
        +box.x=1
        items.1=changed
        items=[]
        +items=[1]
        ~items
        ~nested.a
        ~lr=0.1
        ~nested.a.c
        none={a: {b: 1}}
        miss=here
        miss=???
        keys=1
        ++many={d: ${lr}}
        lr=shuffle([1, 2, 3, 4, 5])
        items=shuffle([1, 2, 3, 4])
        lr=int(2.5)
        lr=str(2.5)
        hydra.job.chdir=true
        hydra.job.name=other
        hydra.job.env_copy=[PATH]
        +hydra.job.env_set.X=1
        hydra.job.config.override_dirname.item_sep=.
        hydra.job.config.override_dirname.exclude_keys=[lr, nested.a.b]
        hydra.verbose=true
        hydra.verbose=[a, b]
        hydra.sweep.subdir=${name}
        hydra.output_subdir=null
        hydra.runtime.choices={}
        hydra.overrides.task=[]
        hydra.mode=RUN
        """),
    wrong=_lines("""
        hydra/nope=1
        +nested.a.b=3
        ~items=[]
        ~lr=0.2
        many={c: 3}
        lr=sort(3, 2, 1)
        +made=choice(1, 2)
        lr=1,2
        lr=range(1, 4)
        lr=glob(*)
        hydra.job.env_copy=[NOWHERE_TO_BE_FOUND]
        hydra.callbacks={a: {_target_: nowhere.Callback}}
        hydra.nope=1
        ~hydra.job
        nope=1
        =1
        lr
        lr=[1
        ~lr=1
        """),
    keys=("lr", "nested.a.b", "items", "none", "miss", "txt", "name", "+new", "++new.deep"),
    masters=("config", "other", "config hydra.job.chdir=true", "config hydra.job.env_copy=[]"),
)

GROUPS = App(
    name="groups",
    groups=_lines("""
        db=mysql
        db=postgres
        db=sqlite
        db@backup=mysql
        db@backup=sqlite
        schema=shop
        schema=school
        trainer/opt=sgd
        trainer/opt=adam
        +sched=step
        +sched@trainer.opt.sched=step
        model=[big]
        model=[small,big]
        model=[]
        model=big
        loose=one
        +loose@_global_=one
        +experiment=one
        +db@foo=mysql
        +db@a.b=postgres
        ~db@backup
        hydra/job_logging=disabled
        hydra.searchpath=[file://FOLDER/db]
        """),
    values=_lines("""
        lr=2.5
        lr=${nested.a.b}
        +n_layers=3
        nested.a.b=2
        nested.a={b: 9}
        nested.ref={x: 1}
        cont={y: 1}
        cont=5
        ++cont.nested.z=1
        opt_ref={q: 1}
        trainer.opt.betas=[1, 2, 3]
        +trainer.opt.new=1
        ~nested.a
        ~lr
        none=[1]
        miss=${db}
        db.user=me
        +db.new=1
        backup.opts={}
        combo=1
        ++combo.x=2
        hydra.job.config.override_dirname.exclude_keys=[lr]
        """),
    wrong=_lines("""
        db=nope
        db=broken
        db=torn
        db=null
        sched@trainer.opt.sched=step
        /sched@trainer.opt.sched=step
        model=null
        ~db
        ~db=mysql
        ~schema=school
        ~schema=shop
        +experiment=two
        db@foo=mysql
        hydra/job_logging=nope
        opt_ref.betas=[1]
        trainer.opt={new: 1}
        schema={a: 1}
        hydra.runtime.choices.db=forged
        hydra.job.env_set={A: b}
        hydra/launcher=hsm_local
        db={driver: hand}
        """),
    keys=("lr", "db", "db.user", "nested.a.c", "cont", "none", "+db.opts.new", "++first.second.x"),
    masters=(
        "config",
        "config db=sqlite",
        "config hydra/job_logging=none",
        "config +sched@more=step",
    ),
)

DEFAULTS = App(
    name="defaults",
    groups=_lines("""
        k=x
        k=y
        g=a
        g=b
        by=one_a
        by=one_b
        +by@more=two_a
        nest=two
        nest/deeper=q
        nest/deeper@nest.other=p
        +nest@there=two
        ~k
        ~by
        k=${oc.env:FUZZ_K}
        """),
    values=("v=2", "++box.a=5", "k.kk=7", "nest.w=5", "~box"),
    wrong=_lines("""
        ~nest
        ~g
        +nest=one
        k={z: 1}
        last=1
        box={c: 3}
        g=${k}
        +nest.w=1
        """),
    keys=("v", "box", "box.a", "k.kk", "nest.w", "++other"),
    masters=("config", "quiet g=a", "called", "config k=y", "quiet g=b nest=two"),
    environment={"FUZZ_K": ("x", "y", "x", "y", "z")},
    prepare=schemas.register_resolvers,
)

STRUCTURED = App(
    name="structured",
    groups=_lines("""
        opt=base
        opt=sgd
        data=x
        data=y
        patch=one
        patch=two
        patch=three
        ~data
        ~patch
        """),
    values=_lines("""
        opt.lr=2
        opt.betas=[1]
        opt.m=1
        opt={lr: 3}
        inner.o.lr=4
        inner.d.b=2
        +inner.d.c=2
        inner.u=abc
        inner.u=null
        inner.c=BLUE
        inner2={a: 1}
        inner2=null
        inner3.a=4
        inner3={o: {lr: 9}}
        lst=[{u: 1}, {c: BLUE}]
        lst.0.u=5
        tup=[2, 3]
        ref=1
        ref.lr=8
        ref={lr: 1}
        path=/tmp/x
        ++opt.lr=7
        inner=${inner3}
        late.a=3
        made.v=4
        data.q.r=[2]
        +new=1
        """),
    wrong=_lines("""
        opt=nope
        patch=wrong
        +data@d2=x
        +data@extra.deep=y
        data@data=x
        opt.lr=abc
        inner.d={z: 1}
        inner.u=[1]
        inner.c=3
        tup=[y, 2]
        inner2.a=4
        """),
    keys=("n", "s", "opt.lr", "inner.u", "inner.d", "lst", "data.p", "inner2", "flag", "ratio"),
    masters=("config", "made", "told", "config opt=base", "told hydra.job.chdir=false"),
    environment={"FUZZ_TOLD": ("1", "1", "1", "2")},
    prepare=schemas.store_schemas,
)

RESOLVERS = App(
    name="resolvers",
    groups=_lines("""
        g=one
        g=two
        g=three
        g=four
        +h=boxed
        +h=rnd
        +h=[boxed,more]
        +h=[maybe]
        +h=[kept,rnd]
        +h=[parent,made]
        +h=[made,maybe,rnd]
        +h=more
        +h=named
        hydra.searchpath=[]
        hydra.searchpath=[file://FOLDER/extra]
        hydra.searchpath=[file://FOLDER/nowhere]
        hydra.searchpath=[pkg://fuzz_package.configs]
        """),
    values=_lines("""
        v=2
        a=1
        stamp=2
        box=4
        box={q: 1}
        ++box.q=1
        when=now
        g.k=5
        g.k={z: 2}
        hydra.job.name=zz
        v=${rnd:}
        v=${kept:}
        +c=${box:}
        +d=${keptbox:}
        maybe={x: 1}
        kept=5
        parent.p=1
        mood={x: 1}
        v=${nowhere:}
        """),
    wrong=_lines("""
        g=${oc.env:FUZZ_G}
        hydra.searchpath=5
        box.n=7
        keptbox.n=3
        made.a=2
        """),
    keys=("v", "a", "g.k", "box", "+c", "++rnd", "kept", "maybe"),
    masters=("config", "calm", "boxes", "boxes", "stepping", "stepping +h=[rnd]"),
    environment={
        "FUZZ_BOX": ("5", "5", "5", "{a: 1}"),
        "FUZZ_G": ("one", "one", "two"),
        "FUZZ_MOOD": ("value", "box", "error"),
    },
    prepare=schemas.register_resolvers,
)

HYDRA = App(
    name="hydra",
    groups=_lines("""
        hydra/launcher=hsm_local
        hydra/job_logging=default
        hydra/job_logging=disabled
        hydra/hydra_logging=none
        hydra/sweeper=basic
        hydra/output=default
        hydra/help=default
        ~hydra/callbacks
        """),
    values=_lines("""
        n=2
        opt.lr=3
        hydra.job.chdir=null
        hydra.sweep.dir=other
        hydra.sweep={dir: x, subdir: y}
        hydra.job_logging.root.level=DEBUG
        ~hydra.job_logging.handlers.file
        hydra.help.header=h
        hydra.callbacks.noting.where=x
        hydra.verbose=a
        hydra.run.dir=${n}
        """),
    wrong=_lines("""
        hydra/launcher=mine
        hydra/launcher=basic
        hydra/callbacks=null
        hydra/nope=1
        hydra.launcher.nope=3
        hydra.launcher.max_parallel_jobs=3
        hydra.sweeper.max_batch_size=2
        +hydra.launcher.env={A: "1"}
        """),
    keys=("n", "opt.lr", "hydra.job.name", "hydra.sweep.subdir", "+hydra.launcher.env.B"),
    masters=("config", "config hydra/job_logging=disabled", "config hydra/job_logging=default n=1"),
)

OLD = App(
    name="old",
    groups=("db=mysql", "db=named", "db=typed", "~db", "+db@second=mysql"),
    values=("v=2", "db.port=5", "db.port=x", "db.driver=d", "hydra.job.chdir=true"),
    wrong=("+db.new=1", "db.port=y"),
    keys=("v", "db.port", "db.driver", "+new"),
    version_base="1.1",
    before=(1, 4),
    prepare=schemas.store_matching_schema,
)

NEW = App(
    name="new",
    groups=_lines("""
        group/sub=one
        group/sub=two
        +group=sub/one
        +group@_group_.deep=three
        +more@x=one
        by=one
        by=two
        ~by=two
        """),
    values=_lines("""
        opt.lr=2
        opt.items[0]=5
        opt.items[2].x=6
        opt.items=extend_list(4, 5)
        opt.items=extend_list({y: 1})
        ~opt.items[1]
        typed.pair=[8, eight]
        typed.counts=[1, 2, 3]
        typed.counts=[]
        hydra.aliases={}
        opt.lr=${hydra:job.override_dirname}
        """),
    wrong=_lines("""
        group=three
        more=up
        more@late.more=up
        ~group/sub
        pick=one
        rate=2
        quick
        fast
        +opt.items[3]=1
        typed.pair=[eight, 8]
        typed.pair[0]=5
        typed.numbers.a=5
        +hydra.aliases.n=opt.lr
        group={a: 1}
        """),
    keys=("opt.lr", "opt.items[1]", "opt.items", "++typed.numbers", "++new"),
    masters=("config", "config group/sub=one"),
    prepare=schemas.store_tuples,
    hydra=(1, 4),
)

APPS = {app.name: app for app in (PLAIN, GROUPS, DEFAULTS, STRUCTURED, RESOLVERS, HYDRA, OLD, NEW)}
