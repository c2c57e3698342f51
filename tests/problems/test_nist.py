import math

import numpy as np
import pytest
import scipy.optimize
import torch

from precond.core import BadInputError
from precond.problems import load
from precond.problems.formula import parse_formula
from precond.problems.readers.nist import read_nist

CPU = torch.device("cpu")
MODELS = {
    "decay": (
        "y = b1*(1-exp[-b2*x])  +  e",
        lambda b, x: b[0] * (1 - np.exp(-b[1] * x)),
        [3.0, 0.7],
        ([1.0, 1.0], [2.5, 0.5]),
    ),
    "rational": (
        "y = (b1 + b2*x) /\n                   (1 + b3*x**2)  +  e",
        lambda b, x: (b[0] + b[1] * x) / (1 + b[2] * x**2),
        [1.0, 2.0, 0.5],
        ([1.5, 1.5, 0.8], [1.1, 2.1, 0.4]),
    ),
    "logarithm": (
        "log[y] = b1 - b2*arctan( x/pi ) + b3*cos( 2*pi*x/b4 )  + e",
        lambda b, x: b[0] - b[1] * np.arctan(x / np.pi) + b[2] * np.cos(2 * np.pi * x / b[3]),
        [1.0, 0.5, 0.3, 2.0],
        ([1.2, 0.6, 0.2, 1.95], [0.9, 0.4, 0.4, 2.02]),
    ),
}


def published(name):
    """Write a file in NIST's form, whose certified values come from an independent fit."""
    formula, model, truth, starts = MODELS[name]
    random = np.random.default_rng(0)
    x = np.linspace(0.1, 4, 30)
    left = model(truth, x) + 0.01 * random.standard_normal(len(x))
    y = np.exp(left) if formula.startswith("log") else left
    fit = scipy.optimize.least_squares(
        lambda b: left - model(b, x), truth, xtol=1e-15, ftol=1e-15, gtol=1e-15, jac="3-point"
    )
    rows = "\n".join(
        f"  b{i + 1} =   {starts[0][i]:g}   {starts[1][i]:g}   {value:.10E}  1.0E-03" for i, value in enumerate(fit.x)
    )
    table = "\n".join(f"      {a!r}   {b!r}" for a, b in zip(y.tolist(), x.tolist(), strict=True))
    text = f"""NIST/ITL StRD
Dataset Name:  {name}            ({name}.dat)

Data:          1 Response  (y = made up)
               1 Predictor (x = made up)

Model:         Some Class
               {len(truth)} Parameters (b1 and b2)

               {formula}


          Starting values                  Certified Values

        Start 1     Start 2           Parameter     Standard Deviation
{rows}

Residual Sum of Squares:                    {2 * fit.cost:.10E}
Number of Observations:                            {len(x)}

Data:   y             x
{table}
"""
    return text, fit


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("suffix", [".dat", ".dat.gz"])
def test_a_published_file_reproduces_its_certified_values(write, name, suffix):
    text, fit = published(name)
    path = write(name + suffix, text)
    regression = read_nist(path)
    problem = load(str(path))
    assert problem.name == f"nist:{name}"
    assert 2 * problem.build(0, CPU).fun(torch.from_numpy(regression.certified)).item() == pytest.approx(
        regression.sum_of_squares, rel=1e-8
    )
    for seed in range(3):
        instance = problem.build(seed, CPU)
        np.testing.assert_array_equal(instance.x0, MODELS[name][3][seed % 2])
        b = torch.randn(len(fit.x), dtype=torch.float64).abs() + 0.5
        assert instance.residual(b).square().sum().item() / 2 == pytest.approx(instance.fun(b).item())
        expected = (np.abs(b.numpy() - fit.x) / np.abs(fit.x)).max()
        assert instance.measure(b, 0.0, b) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_gauss_newton_meets_the_target_from_both_starts(write, name):
    problem = load(str(write("a.dat", published(name)[0])))
    for seed in (0, 1):
        instance = problem.build(seed, CPU)
        jacobian = torch.func.jacrev(instance.residual)
        found = scipy.optimize.least_squares(
            lambda b, instance=instance: instance.residual(torch.from_numpy(b)).numpy(),
            instance.x0.numpy(),
            jac=lambda b, jacobian=jacobian: jacobian(torch.from_numpy(b)).numpy(),
            method="lm",
        )
        x = torch.from_numpy(found.x)
        assert instance.measure(x, 0.0, x) <= problem.target < instance.measure(instance.x0, 0.0, x)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("NIST/ITL StRD", "Hello", None),
        ("exp[", "system[", ":10: the formula calls 'system' so; known with one argument: arctan"),
        ("b2*x]", "b9*x]", ":10: the formula uses 'b9', which is none of b1, b2, x, y; rename it"),
        ("b2*x])", "b2*x)", ":10: cannot read the formula"),
        ("y = b1", "nothing", ":7: the model has no formula 'y = ...'"),
        ("Model:", "Madel:", "no 'Model:' line"),
        ("  b2 =", "  b3 =", "parameter b3 where b2 was expected"),
        ("  b1 =   1 ", "  b1 =   one ", "'one' is not a number"),
        ("Residual Sum", "Residual Some", "no 'Residual Sum of Squares:' line"),
        ("Data:   y             x", "Data:   z", "no data table"),
        (
            "Observations:                            30",
            "Observations:    31",
            "30 observations where 31 were announced",
        ),
        ("   0.1\n", "   nan\n", "nan is not finite"),
        ("   0.1\n", "   0.1 7\n", ":23: 3 numbers where y x needs 2"),
    ],
)
def test_a_damaged_file_is_explained(write, refused, old, new, says):
    text = published("decay")[0]
    assert old in text
    path = write("bad.dat", text.replace(old, new))
    if says is None:
        assert load(f"nist:{path}"), "the title is not needed where the table is there"
        return
    message = refused(f"nist:{path}")
    assert message.startswith(str(path))
    assert says in message, message
    assert "; " in message


def test_another_file_is_refused(write, refused):
    assert ":1: not a NIST StRD regression file; give a NIST" in refused(f"nist:{write('a.dat', 'some text')}")
    assert ":2: binary data" in refused(f"nist:{write('b.dat', b'NIST/ITL StRD' + chr(10).encode() + bytes([255]))}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2*x**2 - 3", 2 * 1.5**2 - 3),
        ("-x^2", -(1.5**2)),
        ("(1+2*x)**(-.5)", 4**-0.5),
        ("exp[-x] / (1 + [x])", math.exp(-1.5) / 2.5),
        ("ln(x) + arctan(pi*x)", math.log(1.5) + math.atan(math.pi * 1.5)),
        ("exp(1)", math.e),
        ("+7", 7.0),
    ],
)
def test_formulas(text, value):
    assert float(parse_formula(text, {"x"})({"x": torch.tensor(1.5, dtype=torch.float64)})) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "x.numpy()", "(lambda: 1)()", "[x for x in y]", "'a'*9", "x if x else 1",
        "exp(x, x)", "exp(x=1)", "x < 1", "x; x", "", "z", "9**9**9 ** x", "(" * 500 + "x" + ")" * 500, "x * True",
        "x" * 3000, "f'{x}'", "x := 3", "x // 2", "1j * x", "1" + "0" * 400,
    ],
)  # fmt: skip
def test_formulas_are_never_run_as_code(text):
    if text == "9**9**9 ** x":  # allowed by the grammar: floats overflow at once instead of computing for ever
        with pytest.raises((OverflowError, BadInputError)):
            parse_formula(text, {"x"})({"x": 2.0})
        return
    with pytest.raises(BadInputError):
        parse_formula(text, {"x", "y"})
