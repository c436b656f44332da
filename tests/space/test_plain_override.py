"""What is read without Hydra's grammar means what the grammar says, for every text."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hsm.core.errors import SettingsError
from hsm.core.space.grammar import check_key, parse_override
from hsm.core.space.overrides import _values
from hsm.core.space.plain_override import read_plain_override

#: Pieces of overrides, right and wrong, of which texts are made.
_PIECES = [
    *("0", "1", "-1", "+7", "12", "007", "1_000", "1__0", "_1", "0x10", "9" * 40, "1" * 600),
    *(
        "0.1",
        "-.5",
        "1.",
        ".",
        "1e3",
        "1e-3",
        "-1E+2",
        "1e",
        "1.5e1_0",
        "1_0.2_5",
        "0.30000000000004",
    ),
    *(
        "inf",
        "-inf",
        "Infinity",
        "nan",
        "-NaN",
        "null",
        "None",
        "NULL",
        "nUll",
        "true",
        "False",
        "yes",
    ),
    *(
        "a",
        "svm",
        "a-b",
        "a.b",
        "a/b",
        "/tmp/x.y",
        "-",
        "+",
        "..",
        "_",
        "a_1",
        "1a",
        "e5",
        "trueish",
    ),
    *("caf\u00e9", "\u0661", "\u00b2", "\u0130", "a b", "\n", "\r", "\x00", "\u00a0", "\u2028"),
    *(
        "'a'",
        '"a, b"',
        "'it",
        '"',
        "\\,",
        "\\",
        "${a}",
        "${oc.env:HOME}",
        "$",
        "%",
        "*",
        "@",
        "?",
        "|",
    ),
    *("[", "]", "[1,2]", "{", "}", "{a:1}", "{a: [b]}", ":", "=", "==", "#", "~", ";", "<", "&"),
    *("(", ")", "()", ",", ",,", " ", "\t", "  ", ", ", " ,"),
    *(
        "range",
        "choice",
        "sort",
        "shuffle",
        "glob",
        "interval",
        "tag",
        "int",
        "float",
        "str",
        "bool",
    ),
    *(
        "range(",
        "range(3)",
        "range(1,4)",
        "range(1, 0, -0.25)",
        "range(0,1,0.1)",
        "range(5,5)",
        "range (",
    ),
    *("choice(", "choice(a,b)", "glob(*)", "interval(0,1)", "start=", "step=2", "reverse=true"),
]
_KEYS = [
    *(
        "x",
        "+x",
        "++x",
        "+++x",
        "~x",
        "~",
        "",
        "+",
        "a.b",
        "a.0",
        "a.01",
        "a..b",
        ".a",
        "a/b",
        "a/b/c",
    ),
    *(
        "a@b",
        "a/b@c.d",
        "a@",
        "@a",
        "a@b:c",
        "$x",
        "x$y",
        "a-b",
        "-a",
        "1",
        "1.a",
        "_x",
        "a b",
        " x",
        "x ",
    ),
    *(
        "x[0]",
        "items[a]",
        "a\\.b",
        "caf\u00e9",
        "x,y",
        "x:y",
        "x\n",
        "'x'",
        "hydra/launcher",
        "hydra.job.num",
    ),
]

_texts = st.builds(
    "{}{}{}".format,
    st.sampled_from(_KEYS),
    st.sampled_from(["=", "=", "=", "= ", "=\t ", " =", "", "=="]),
    st.lists(st.sampled_from(_PIECES), max_size=7).map("".join) | st.text(max_size=12),
)
_numbers = st.integers(-9, 40) | st.sampled_from(
    [
        "0.1",
        "-0.25",
        "1e1",
        "1e-1",
        "2.",
        ".5",
        "0",
        "inf",
        "nan",
        "1_0",
        "true",
        "a",
        "null",
        "'1'",
        "",
    ]
)
_calls = st.builds(
    "x={}({}){}".format,
    st.sampled_from(["range", "range", "choice", "range ", "Range"]),
    st.lists(_numbers.map(str), max_size=4).flatmap(
        lambda given: st.sampled_from([",", ", ", " , "]).map(lambda between: between.join(given))
    ),
    st.sampled_from(["", "", "", " ", ",1", "x"]),
)
_scalars = st.lists(st.sampled_from(_PIECES[:60]), min_size=1, max_size=4).flatmap(
    lambda given: st.sampled_from([",", ", ", " ,\t"]).map(
        lambda between: "x=" + between.join(given)
    )
)


def read(text: str) -> str:
    """What the grammar reads: the key and each value, or the error."""
    try:
        override = parse_override(text, "here")
        key = check_key(override.get_key_element(), "here")
        values = _values(override, None, "here")
    except SettingsError as error:
        return f"refused: {error}"
    return repr((key, [values[at] for at in range(min(values.count, 50))], values.count))


@settings(max_examples=250, deadline=None)
@given(_texts | _calls | _scalars)
@example("x=range(1000)")
@example("x=choice(a,b) ")
@example("x=choice(null)")
@example("x= 1, 2 ")
@example("x=range(0,0.8,0.1)")
@example("x=1" + "0" * 5000)
def test_what_needs_no_grammar_is_what_the_grammar_reads(text: str) -> None:
    plain = read_plain_override(text)
    if plain is not None:
        key, values = plain
        told = repr((key, [values[at] for at in range(min(values.count, 50))], values.count))
        assert told == read(text)


@pytest.mark.parametrize(
    "text",
    [
        "n=range(1000)",
        "seed=range(1, 5)",
        "x=range(0, 1, 0.25)",
        "lr=0.1,1e-3",
        "model=svm, forest",
        "+x=choice(1,a,true)",
        "++a.b=3",
        "db@source=mysql",
        "hydra/launcher=hsm_local",
        "path=/tmp/data-1.csv",
    ],
)
def test_the_usual_forms_need_no_grammar(text: str) -> None:
    assert read_plain_override(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        *("~x=1", "x=", "x", "x='1'", "x=[1]", "x={a:1}", "x=${y}", "x=a b", "x=1,", "x=a:b"),
        *(
            "x=range(0)",
            "x=range(1,2,0)",
            "x=range(inf)",
            "x=range(a)",
            "x=range(true)",
            "x=range()",
            "x=choice(null)",
            "x=choice(1,null)",
        ),
        *("x=range(1,2,3,4)", "x=range(stop=3)", "x=sort(1,2)", "x=choice()", "x=choice([1])"),
        *("x=int(1)", "x=glob(*)", "x=interval(0,1)", "x=shuffle(range(3))", "x[0]=1"),
    ],
)
def test_all_else_is_left_to_the_grammar(text: str) -> None:
    assert read_plain_override(text) is None


def test_a_sweep_of_plain_overrides_imports_no_hydra() -> None:
    program = (
        "import sys; from hsm.core.space.definition import parse_overrides as parse;"
        "print(parse(['n=range(1000)', 'lr=0.1,0.01', 'model=svm']).count());"
        "print([name for name in sys.modules if name in ('hydra', 'omegaconf', 'antlr4')])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert told.stdout == "2000\n[]\n"
