"""`precond.minimize` as a user calls it: forms, statuses, bad input, certificates, counted work."""

import dataclasses
import math
import re

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn

import precond
from precond.core import (
    Advance,
    BadInputError,
    Builds,
    Cadence,
    IncompatibleError,
    Method,
    Need,
    NoState,
    Preconditioner,
    Search,
    Status,
    UnknownNameError,
)
from precond.filters.clip import ClipNorm
from precond.filters.ema import EMA
from precond.preconditioners.dense_cholesky import DenseCholesky
from precond.preconditioners.identity import Identity
from precond.preconditioners.lbfgs import LBFGS
from precond.recipes import registry
from precond.recipes.second_order import newton
from precond.smooth import Event
from precond.steps.armijo import Armijo
from precond.steps.cubic import Cubic
from precond.steps.gradient_regularized import GradientRegularized
from precond.steps.strong_wolfe import StrongWolfe

METHODS = ["auto", "lbfgs", "newton-cg", "regularized-newton"]
rosen, rosen_der = scipy.optimize.rosen, scipy.optimize.rosen_der
rosen_hess_prod = scipy.optimize.rosen_hess_prod


def torch_rosen(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def start():
    return torch.tensor([0.2, 0.7] * 3, dtype=torch.float64)  # from [-1.2, 1.0] * 3 another minimum is near


def breast_cancer():
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import StandardScaler

    features, labels = load_breast_cancer(return_X_y=True)
    a = torch.from_numpy(StandardScaler().fit_transform(features))
    b = torch.from_numpy(2.0 * labels - 1)
    return lambda w: nn.functional.softplus(-b * (a @ w)).mean() + 0.5 / len(b) * (w @ w), a.shape[1]


# --- forms


@pytest.mark.parametrize("method", METHODS)
def test_torch_function(method):
    x0 = start()
    result = precond.minimize(torch_rosen, x0, method=method, tol=1e-8)
    assert result.converged, result.message
    assert result.status is Status.CONVERGED_GRADIENT
    torch.testing.assert_close(result.x, torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-7)
    assert torch.equal(x0, start())
    assert result.certificate.value <= 1e-8 == result.certificate.bound
    assert len(result.history) == result.iterations + 1
    if method == "auto":
        assert "auto:" in result.method


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hessp", [rosen_hess_prod, None])
def test_numpy_functions(method, hessp):
    result = precond.minimize(rosen, start().numpy(), jac=rosen_der, hessp=hessp, method=method, tol=1e-6)
    assert result.converged, result.message
    assert isinstance(result.x, np.ndarray)
    assert result.x.dtype == np.float64
    np.testing.assert_allclose(result.x, 1, atol=1e-5)
    if hessp is None and method in ("newton-cg", "regularized-newton"):
        assert result.work.gradients > result.work.hvps > 0  # differences are not free


def test_numpy_with_a_pair_and_a_list():
    result = precond.minimize(lambda x: (rosen(x), rosen_der(x)), [-1.2, 1], jac=True)
    assert result.converged
    np.testing.assert_allclose(result.x, 1, atol=1e-4)


def test_given_derivatives_in_torch():
    result = precond.minimize(lambda x: x @ x, torch.ones(3).double(), jac=lambda x: 2 * x, hessp=lambda x, p: 2 * p)
    assert result.converged
    assert isinstance(result.x, torch.Tensor)


def test_dict_of_tensors():
    x0 = {"w": torch.ones(2, 3).double(), "b": torch.tensor(5.0).double()}
    result = precond.minimize(lambda p: (p["w"] ** 2).sum() + (p["b"] - p["w"].sum()) ** 2, x0, method="newton-cg")
    assert result.converged
    assert set(result.x) == {"w", "b"}
    assert result.x["w"].shape == (2, 3)
    assert result.x["b"].shape == ()
    assert max(float(v.abs().max()) for v in result.x.values()) < 1e-5


def test_a_module_that_draws_is_refused_until_it_is_in_eval_mode():
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).double()
    x = torch.eye(3, dtype=torch.float64)

    def loss(m):
        return (m(x) - 1).square().mean()

    with pytest.raises(BadInputError, match=r"1 \(Dropout\) drops entries.*model.eval"):
        precond.minimize(loss, model)
    assert precond.minimize(loss, model.eval()).converged


@pytest.mark.parametrize("method", METHODS)
def test_module_is_optimized_in_place(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    model[0].bias.requires_grad_(False)
    frozen = model[0].bias.clone()
    x, y = torch.randn(20, 3).double(), torch.randn(20, 1).double()

    def loss(model):
        return ((model(x) - y) ** 2).mean() + 1e-2 * sum((p**2).sum() for p in model.parameters())

    before, ids = float(loss(model).detach()), [id(p) for p in model.parameters()]
    result = precond.minimize(loss, model, method=method, tol=1e-6)
    assert result.converged, result.message
    assert result.x is model
    assert ids == [id(p) for p in model.parameters()]
    assert torch.equal(frozen, model[0].bias)
    model.zero_grad()
    after = loss(model)
    after.backward()
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters() if p.requires_grad))
    assert norm <= 1e-6 * (1 + 1e-6)
    assert after.item() < before


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_any_shape_comes_back(shape):
    result = precond.minimize(lambda x: ((x - 2) ** 2).sum(), torch.zeros(shape).double())
    assert result.converged
    assert result.x.shape == shape


def test_lists_and_numbers_become_float64():
    assert precond.minimize(lambda x: ((x - 2) ** 2).sum(), [1, 0]).x.dtype == torch.float64
    assert precond.minimize(lambda x: (x - 2) ** 2, 3.0).x.item() == pytest.approx(2)


@pytest.mark.parametrize("method", METHODS)
def test_breast_cancer_to_a_tight_tolerance_like_scipy(method):
    fun, n = breast_cancer()

    def value_and_gradient(w):
        w = torch.from_numpy(w).requires_grad_()
        loss = fun(w)
        return loss.item(), torch.autograd.grad(loss, w)[0].numpy()

    rival = scipy.optimize.minimize(
        value_and_gradient, np.zeros(n), jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-9, "maxiter": 5000}
    )
    result = precond.minimize(fun, torch.zeros(n).double(), method=method, tol=1e-8)
    assert result.converged, result.message
    assert result.certificate.value <= 1e-8
    assert result.certificate.extra["loss"] == pytest.approx(rival.fun, rel=1e-12)
    np.testing.assert_allclose(result.x.numpy(), rival.x, atol=1e-5)
    assert result.work.gradients <= 1.5 * rival.nfev


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(x0=torch.tensor([1.0, math.nan])), "NaN"),
        (dict(x0=[math.inf]), "infinity"),
        (dict(x0=torch.zeros(2, dtype=torch.int64)), r"x0\.double"),
        (dict(x0=np.zeros(2, dtype=int), jac=lambda x: x), "dtype"),
        (dict(x0=torch.zeros(2, dtype=torch.float16)), "float16"),
        (dict(x0=torch.zeros(2, dtype=torch.complex64)), "complex64"),
        (dict(x0=np.zeros(2), fun=lambda x: np.square(x).sum()), "jac is missing"),
        (dict(x0="here"), "vector of numbers"),
        (dict(x0={"a": [1.0]}), r"x0\['a'\]"),
        (dict(x0={"a": torch.zeros(1), "b": torch.zeros(1).double()}), "mixes"),
        (dict(x0=nn.ReLU()), "no parameter"),
        (dict(fun=3), "callable"),
        (dict(fun=lambda x: x), "one real number"),
        (dict(fun=lambda x: 1.0), "torch tensor"),
        (dict(fun=lambda x: torch.tensor(1.0)), "depend on x"),
        (dict(fun=lambda x: x.sum().detach()), "depend on x"),
        (dict(jac=lambda x: np.zeros(3), fun=lambda x: 0.0, x0=np.zeros(2)), "2 entries"),
        (dict(jac=lambda x: x, fun=lambda x: x, x0=np.zeros(2)), "one real number"),
        (dict(hessp=lambda x, p: p), "jac"),
        (dict(tol=-1.0), "tol"),
        (dict(tol=math.nan), "tol"),
        (dict(max_iterations=-1), "max_iterations"),
        (dict(max_iterations=1.5), "max_iterations"),
        (dict(method=7), "name or a Method"),
        (dict(method="lbfgs", lr=0.1), "lr"),
        (dict(method=Method(preconditioner=Identity())), "learning rate"),
        (dict(method=Method(preconditioner=Identity()), lr=-1.0), "positive"),
    ],
)
def test_bad_input_names_its_remedy(arguments, says):
    fun = arguments.pop("fun", lambda x: (x**2).sum())
    x0 = arguments.pop("x0", torch.zeros(2).double())
    with pytest.raises(BadInputError, match=says):
        precond.minimize(fun, x0, **arguments)


def test_unknown_names_list_near_ones():
    with pytest.raises(UnknownNameError, match="lbfgs"):
        precond.minimize(torch_rosen, start(), method="lbgfs")


@dataclasses.dataclass(frozen=True)
class Fussy(Preconditioner[NoState]):
    """A part that needs what no smooth objective has."""

    needs = Need.ADJOINT

    def init(self, like):
        return NoState()

    def apply(self, state, v, *, shift=0.0):
        return v.clone()


@pytest.mark.parametrize(
    "method",
    [
        Method(preconditioner=Fussy(), step=Armijo()),
        Method(preconditioner=Identity(), momentum=EMA(0.9), step=Armijo()),
        Method(preconditioner=DenseCholesky(), step=GradientRegularized()),
        Method(preconditioner=LBFGS(), step=Cubic()),
    ],
)
def test_methods_that_cannot_run_are_refused_before_the_first_step(method):
    calls = []
    with pytest.raises(IncompatibleError):
        precond.minimize(lambda x: calls.append(1) or x @ x, start(), method=method)
    assert not calls


# --- statuses


def test_already_at_a_minimum_costs_one_gradient():
    result = precond.minimize(lambda x: x @ x, torch.zeros(3).double(), method="lbfgs")
    assert (result.iterations, result.work.gradients, result.converged) == (0, 1, True)


@pytest.mark.parametrize("method", METHODS)
def test_no_variables(method):
    result = precond.minimize(lambda x: x.sum() + 1, torch.zeros(0).double(), method=method)
    assert result.converged
    assert result.x.shape == (0,)
    assert precond.minimize(lambda x: torch.tensor(2.0), torch.zeros(0).double()).converged


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_finite_at_the_start(value):
    result = precond.minimize(lambda x: x.sum() * value, torch.ones(2).double())
    assert result.status is Status.FAILED_NON_FINITE
    assert torch.equal(result.x, torch.ones(2).double())
    assert not result.converged


def test_steps_that_are_too_long_are_named_with_their_learning_rate():
    result = precond.minimize(lambda x: 25 * x @ x, torch.ones(2).double(), method="sgd", lr=0.5)
    assert result.status is Status.FAILED_NON_FINITE
    assert "lr below 0.5" in result.note


@pytest.mark.parametrize("method", METHODS)
def test_unbounded_below(method):
    result = precond.minimize(lambda x: -(x**2).sum(), torch.ones(3).double(), method=method, max_iterations=2000)
    assert not result.converged
    assert result.status is Status.FAILED_UNBOUNDED
    assert result.certificate.extra["loss"] < -1e20


@pytest.mark.parametrize("method", METHODS)
def test_zero_hessian_is_not_called_a_minimum(method):
    result = precond.minimize(lambda x: x.sum(), torch.ones(3).double(), method=method, max_iterations=50)
    assert result.status in (Status.FAILED_UNBOUNDED, Status.STOPPED_STEPS)
    assert result.certificate.extra["loss"] < 3


@pytest.mark.parametrize("method", METHODS)
def test_constant_direction_in_the_hessian(method):
    result = precond.minimize(lambda x: (x.sum() - 1) ** 2, torch.arange(4.0).double(), method=method, tol=1e-9)
    assert result.converged, result.message


@pytest.mark.parametrize("method", METHODS)
def test_indefinite_hessian_at_the_start(method):
    x0 = torch.tensor([0.1, -0.2, 0.01]).double()
    result = precond.minimize(lambda x: ((x**2 - 1) ** 2).sum(), x0, method=method)
    assert result.converged, result.message
    torch.testing.assert_close(result.x.abs(), torch.ones(3).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_float32_is_certified_in_float64(method):
    result = precond.minimize(lambda x: ((x - 3) ** 2).sum() + (x**4).sum(), torch.zeros(5), method=method, tol=1e-4)
    assert result.converged, result.message
    assert result.x.dtype == torch.float32
    assert "float64" in result.certificate.quantity


def test_float32_data_is_certified_as_it_is():
    a = torch.eye(3)
    result = precond.minimize(lambda x: ((a @ x - 1) ** 2).sum(), torch.zeros(3), tol=1e-4)
    assert result.converged
    assert "float32" in result.certificate.quantity


@pytest.mark.parametrize("method", METHODS)
def test_beyond_the_precision_ends_in_stagnation(method):
    result = precond.minimize(torch_rosen, start().float(), method=method, tol=1e-30)
    assert result.status in (Status.FAILED_STAGNATION, Status.FAILED_LINE_SEARCH, Status.CONVERGED_GRADIENT)
    torch.testing.assert_close(result.x, torch.ones(6), atol=1e-2, rtol=0)


def test_a_claim_that_the_certificate_refutes_is_not_convergence():
    # in float32 the gradient vanishes at the number nearest to 0.1; the true gradient there is 3e-9
    result = precond.minimize(lambda x: ((x - 0.1) ** 2).sum(), torch.zeros(1), method="lbfgs", tol=1e-12)
    assert result.history[-1] <= 1e-12 < result.certificate.value
    assert result.status is Status.FAILED_STAGNATION
    assert "float64" in result.message


def test_limit_on_iterations():
    result = precond.minimize(torch_rosen, start(), max_iterations=3)
    assert (result.status, result.iterations) == (Status.STOPPED_STEPS, 3)
    assert "max_iterations" in result.message
    assert precond.minimize(torch_rosen, start(), max_iterations=0).iterations == 0


def test_wrong_gradient_is_a_failed_line_search():
    result = precond.minimize(rosen, start().numpy(), jac=lambda x: -rosen_der(x))
    assert result.status is Status.FAILED_LINE_SEARCH
    assert "check the gradient" in result.message
    np.testing.assert_array_equal(result.x, start().numpy())


@pytest.mark.parametrize("method", METHODS)
def test_nan_beyond_a_wall(method):
    result = precond.minimize(lambda x: (x - torch.log(x)).sum(), torch.full((4,), 9.0).double(), method=method)
    assert result.converged, result.message
    torch.testing.assert_close(result.x, torch.ones(4).double(), atol=1e-5, rtol=0)


# --- callback, interrupt, best point


def test_callback_sees_every_iteration_and_can_stop():
    events = []

    def callback(event):
        events.append(event)
        return event.iteration == 5

    result = precond.minimize(lambda p: torch_rosen(p["x"]), {"x": start()}, callback=callback)
    assert (result.status, result.iterations) == (Status.STOPPED_USER, 5)
    assert [event.iteration for event in events] == list(range(6))
    assert [event.gradient_norm for event in events] == result.history
    last = events[-1]
    assert last.x["x"].shape == last.gradient["x"].shape == (6,)
    assert float(torch_rosen(last.x["x"])) == pytest.approx(last.loss)


def test_interrupt_returns_the_best_point():
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return torch_rosen(x)

    result = precond.minimize(fun, start())
    assert result.status is Status.STOPPED_INTERRUPT
    assert float(torch_rosen(result.x)) < float(torch_rosen(start()))


def test_errors_of_the_function_pass_through():
    def fun(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        precond.minimize(fun, start())


def test_fixed_learning_rate_returns_the_best_point_of_a_run_that_diverges():
    result = precond.minimize(
        lambda x: (x**4).sum(), torch.tensor([1.0]).double(), method=Method(preconditioner=Identity()), lr=0.7,
    )  # fmt: skip
    assert result.status in (Status.FAILED_NON_FINITE, Status.CONVERGED_GRADIENT)
    assert abs(result.x.item()) <= 1


def test_fixed_learning_rate_is_gradient_descent():
    a = torch.tensor([1.0, 3.0]).double()
    result = precond.minimize(
        lambda x: 0.5 * (a * x * x).sum(), torch.ones(2).double(), method=Method(preconditioner=Identity()),
        lr=0.25, max_iterations=7, tol=0.0,
    )  # fmt: skip
    torch.testing.assert_close(result.x, (1 - 0.25 * a) ** 7)
    assert result.work.gradients == 8


@dataclasses.dataclass
class Log:
    calls: list


@dataclasses.dataclass(frozen=True)
class Recorder(Preconditioner[Log]):
    """The identity that records what the driver does to it."""

    needs = Need.SECANT | Need.PREVIOUS | Need.LOSS

    def init(self, like):
        return Log([])

    def observe(self, state, evidence):
        seen.append(("observe", evidence))

    def refresh(self, state):
        seen.append(("refresh",))
        return super().refresh(state)

    def apply(self, state, v, *, shift=0.0):
        seen.append(("apply",))
        return v.clone()


seen: list = []


def test_driver_feeds_secants_and_keeps_the_cadence():
    seen.clear()
    method = Method(preconditioner=Recorder(), step=StrongWolfe(), cadence=Cadence(every=3))
    result = precond.minimize(torch_rosen, start(), method=method, max_iterations=6)
    order = [entry[0] for entry in seen]
    assert order[:3] == ["observe", "refresh", "apply"]
    assert order.count("observe") == order.count("apply") == 6 == result.work.applies
    assert order.count("refresh") == 3 == result.work.refreshes  # steps 1, 3, 6
    evidence = [entry[1] for entry in seen if entry[0] == "observe"]
    assert evidence[0].secant is None
    s, y = evidence[1].secant
    assert s.shape == y.shape == (1, 6)
    torch.testing.assert_close(evidence[1].gradient - evidence[1].previous, y)


@dataclasses.dataclass(frozen=True)
class Uphill(Recorder):
    """A direction that ascends."""

    def apply(self, state, v, *, shift=0.0):
        return -v


def test_directions_that_do_not_descend_are_replaced(caplog):
    method = Method(preconditioner=Uphill(), step=StrongWolfe())
    with caplog.at_level("INFO", logger="precond"):
        result = precond.minimize(lambda x: ((x - 1) ** 2).sum(), torch.zeros(3).double(), method=method)
    assert result.converged
    assert re.search(r"\d+ directions did not descend", caplog.text)


@dataclasses.dataclass
class Count:
    steps: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Tires(Search[Count]):
    """A search that finds nothing once it has taken twelve steps."""

    def init(self, like):
        return Count(torch.zeros(1))

    def advance(self, state, point, direction, objective):
        state.steps += 1
        if state.steps > 12:
            return Advance(point, Status.FAILED_LINE_SEARCH)
        return StrongWolfe().advance(NoState(), point, direction, objective)


def test_a_search_that_fails_is_tried_once_more_with_fresh_states(caplog):
    with caplog.at_level("INFO", logger="precond"):
        result = precond.minimize(torch_rosen, start(), method=Method(preconditioner=LBFGS(), step=Tires()))
    assert result.converged
    assert result.iterations > 12
    assert "afresh" in caplog.text


# --- work


def test_work_counts_what_the_function_was_asked():
    calls = []

    def fun(x):
        calls.append(1)
        return torch_rosen(x)

    for method in METHODS:
        calls.clear()
        work = precond.minimize(fun, start(), method=method).work
        assert len(calls) == work.losses + work.gradients + 1  # one more for the certificate
        assert work.seconds["total"] > 0


def test_hessian_products_match_the_dense_hessian():
    from precond.solvers.smooth.objectives import TorchObjective

    x = start()[None]
    objective = TorchObjective(torch_rosen, curvature=True)
    point = objective.point(x)
    operator = objective.hessian(point.x)
    dense = torch.autograd.functional.hessian(torch_rosen, x[0])
    torch.testing.assert_close(operator.matvec(torch.eye(6).double()), dense)
    torch.testing.assert_close(operator.rmatvec(torch.eye(6).double()), dense)
    assert (objective.work.gradients, objective.work.hvps) == (1, 12)
    assert operator.traits.symmetric


def test_differences_of_gradients_approximate_the_hessian():
    from precond.solvers.smooth.given_objective import GivenObjective

    x = start()
    objective = GivenObjective(rosen, rosen_der, give=torch.Tensor.numpy)
    products = objective.hessian(x[None]).matvec(torch.eye(6).double())
    dense = torch.autograd.functional.hessian(torch_rosen, x)
    torch.testing.assert_close(products, dense, rtol=1e-4, atol=1e-3)
    assert (objective.work.gradients, objective.work.hvps) == (7, 6)


class OnceOnly(torch.autograd.Function):
    """The sum of squares, differentiable once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


def test_auto_says_why():
    assert precond.minimize(torch_rosen, start()).method == (
        "newton (auto: whole Hessians cost little more than products)"
    )
    many = precond.minimize(lambda x: (x @ x - 1) ** 2 + x.sum() ** 4, torch.linspace(0, 1, 40).double())
    assert many.method == "newton-cholesky (auto: Hessian products are at hand, and a factor fits)"
    for fun in (OnceOnly.apply, lambda x: OnceOnly.apply(x) + (x**4).sum()):
        result = precond.minimize(fun, start())
        assert result.method == "lbfgs-diagonal (auto: fun cannot be differentiated twice)"
        assert result.converged
        with pytest.raises(IncompatibleError, match="only once"):
            precond.minimize(fun, start(), method="newton-cg")
    assert precond.minimize(rosen, start().numpy(), jac=rosen_der).method == "lbfgs-diagonal (auto: there is no hessp)"
    given = precond.minimize(rosen, start().numpy(), jac=rosen_der, hessp=rosen_hess_prod)
    assert given.method.startswith("newton-cholesky")


def test_a_method_that_was_built_is_named_by_its_parts():
    assert precond.minimize(torch_rosen, start(), method=newton()).method == "Armijo + DenseCholesky"


# --- every recipe that says that it runs here


SMOOTH_METHODS = [
    name for name, recipe in registry.all_recipes().items()
    if recipe.builds is Builds.METHOD and precond.core.Kind.SMOOTH in recipe.runs_on
    and recipe.family != "least-squares"
]  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH_METHODS)
def test_every_smooth_recipe_makes_progress(name):
    fun, n = breast_cancer()
    result = precond.minimize(fun, torch.zeros(n).double(), method=name, max_iterations=60)
    assert result.certificate.extra["loss"] < 0.99 * math.log(2)
    if registry.find(name).family == "second-order":
        exec(registry.find(name).example, {"precond": precond, "torch": torch})  # the example runs


@pytest.mark.parametrize("method", ["lbfgs", "newton-cg", "regularized-newton"])
def test_a_wall_of_nan_is_named_after_one_search(method):
    def wall(x):
        return torch.where((x > 0.5).any(), torch.nan, 1.0) * ((x - 1) ** 2).sum()

    result = precond.minimize(wall, torch.full((3,), 0.5).double(), method=method)
    assert result.status is Status.FAILED_NON_FINITE
    assert torch.equal(result.x, torch.full((3,), 0.5).double())
    assert result.work.gradients <= 90


def test_gradients_are_clipped_before_any_part_sees_them() -> None:
    """By the norm of the whole gradient; what is certified is the gradient itself."""
    target = torch.tensor([30.0, -40.0], dtype=torch.float64)
    method = Method(preconditioner=Identity(), clip=1.0)
    start = torch.zeros(2, dtype=torch.float64)
    seen: list[torch.Tensor] = []

    def watch(event: Event) -> None:
        seen.append(event.x.clone())

    result = precond.minimize(
        lambda x: (x - target).square().sum() / 2, start, method=method, lr=0.5, callback=watch, max_iterations=3
    )
    expected = [0.5 * k * target / 50 for k in range(4)]
    for x, y in zip(seen, expected, strict=True):
        torch.testing.assert_close(x, y)
    torch.testing.assert_close(float(result.certificate.value), 48.5)
    result = precond.minimize(lambda x: (x - 1).square().sum() / 2, start, method=method, lr=0.5)
    assert result.converged
    for limit in ("clip", "clip_estimates"):
        search = dataclasses.replace(registry.find("lbfgs").build(), **{limit: 1.0})
        with pytest.raises(IncompatibleError, match=f"{limit}=None"):
            precond.minimize(lambda x: x.square().sum(), start, method=search)


def test_estimates_are_clipped_after_the_estimator() -> None:
    """A quarter of a gradient of norm 8 is left at 2; momentum then averages what was clipped to 1."""
    start = torch.tensor([8.0, 0.0], dtype=torch.float64)
    method = Method(preconditioner=Identity(), estimator=ClipNorm(2.0), clip_estimates=1.0)
    result = precond.minimize(lambda x: x.square().sum() / 2, start, method=method, lr=1.0, max_iterations=3, tol=1e-12)
    torch.testing.assert_close(result.x, torch.tensor([5.0, 0.0], dtype=torch.float64))


def test_a_cycle_of_rounding_is_stagnation():
    """A point of less gradient whose value is one unit of rounding higher does not make the others progress."""
    g = torch.Generator().manual_seed(0)
    a = torch.randn(60, 4, generator=g, dtype=torch.float64)
    b = torch.randn(60, generator=g, dtype=torch.float64)
    result = precond.minimize(lambda w: 1e12 * ((a @ w - b) ** 2).mean(), torch.zeros(4, dtype=torch.float64), tol=1e-6)
    assert result.status.name == "FAILED_STAGNATION"
    assert result.iterations < 100


def test_few_variables_keep_many_pairs():
    """A limited memory forgets how differently variables are scaled: ten pairs take three times the evaluations."""
    scales = 10.0 ** np.linspace(0, 3, 12)
    shift = np.linspace(-1, 1, 12)

    def fun(x):
        y = scales * x - shift
        return float((100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2).sum())

    def jac(x):
        y = torch.tensor(scales * x - shift, requires_grad=True)
        (100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2).sum().backward()
        return scales * y.grad.numpy()

    many, few = (precond.minimize(fun, np.zeros(12), jac=jac, method=m, tol=1e-4) for m in ("auto", "lbfgs"))
    assert many.converged
    assert many.method.startswith("lbfgs")
    assert many.work.gradients < few.work.gradients / 2


@pytest.mark.parametrize("method", ["auto", "lbfgs", "newton-cg"])
@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e200])
def test_a_gradient_whose_squares_are_no_numbers_is_measured(unit, method):
    def fun(x):
        return unit * ((x - torch.arange(4.0).double()) ** 4 + (x - 1) ** 2).sum()

    start = torch.full((4,), 3.0).double()
    result = precond.minimize(fun, start, tol=1e-8 * unit, method=method)
    leaf = result.x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(fun(leaf), leaf)
    norm = float((gradient / unit).norm())
    assert result.certificate.value / unit == pytest.approx(norm)
    assert result.converged == (norm <= 1e-8)


@pytest.mark.parametrize("unit", [1e-300, 1e-100, 1e150, 1e300])
@pytest.mark.parametrize("form", ["auto", "lbfgs", "newton-cg", "trust-region-newton", "jac", "hessp"])
def test_units_of_the_objective_do_not_matter(unit, form):
    """Squares and products of such numbers leave the range of the arithmetic; minimizers do not change."""
    if form in ("jac", "hessp"):
        result = precond.minimize(
            lambda x: unit * rosen(x), np.array([-1.2, 1.0]), jac=lambda x: unit * rosen_der(x), tol=1e-6 * unit,
            hessp=(lambda x, p: unit * rosen_hess_prod(x, p)) if form == "hessp" else None,
        )  # fmt: skip
    else:
        x0 = torch.tensor([-1.2, 1.0], dtype=torch.float64)
        result = precond.minimize(lambda x: unit * torch_rosen(x), x0, method=form, tol=1e-6 * unit)
    assert result.status is Status.CONVERGED_GRADIENT
    assert np.asarray(result.x) == pytest.approx(np.ones(2), abs=1e-6)
    assert len(result.history) == result.iterations + 1
    assert result.history[0] == pytest.approx(unit * 232.8677, rel=1e-3)
    assert result.certificate.extra["smallest curvature"] == pytest.approx(0.39936 * unit, rel=1e-3)


def test_hessians_by_differences_evaluate_no_point_twice():
    points = []

    def both(x):
        points.append(x.tobytes())
        return rosen(x), rosen_der(x)

    result = precond.minimize(both, start().numpy(), jac=True, method="newton-cg", max_iterations=3)
    assert result.iterations == 3
    assert result.work.gradients + 1 == len(points)  # the certificate's is not counted
    assert len(set(points)) == len(points) - 1


def test_iterations_are_limited_by_the_number_of_variables(monkeypatch):
    monkeypatch.setattr(precond.smooth, "MAX_ITERATIONS", 5)
    short = precond.minimize(rosen, np.array([-1.2, 1.0]), jac=rosen_der)
    assert short.iterations == 20
    long = precond.minimize(rosen, np.array([-1.2, 1.0] * 2), jac=rosen_der)
    assert long.iterations > 20
