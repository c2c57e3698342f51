"""``precond.SolveSequence``: each system certified, and cheaper together than alone."""

from __future__ import annotations

import functools
import math
import pickle
import types

import numpy as np
import pytest
import scipy.sparse
import torch

import precond
from precond.core import BadInputError, IncompatibleError, Iteration, Status, Work
from precond.krylov import GCRODR
from precond.krylov.cg import CG
from precond.operators import FunctionOperator, as_operator
from precond.preconditioners.ilut import ILUT
from precond.preconditioners.jacobi import Jacobi
from precond.problems.load import load
from precond.solvers.sequences import alone
from precond.solvers.sequences.recycled import Remembering
from precond.solvers.sequences.shelf import Shelf
from precond.solvers.sequences.warm import WarmStart
from precond.solvers.sequences.ways import allowed
from precond.solvers.systems.counted import CountedOperator
from precond.solvers.systems.estimates import Price
from precond.solvers.systems.solve import solve_linear
from tests.papers.linear_toys import poisson

rng = np.random.default_rng(21)
M = 14
N = M * M
WIND = scipy.sparse.diags_array([-np.ones(N - 1), np.ones(N - 1)], offsets=[-1, 1])
B = rng.standard_normal(N)


def related(i):
    """Return a convection-diffusion matrix and a right-hand side that drift slowly."""
    return scipy.sparse.csr_array(poisson(M) + (0.5 + 0.01 * i) * WIND), B + 0.01 * i * np.roll(B, 1)


def residual(a, b, x):
    return np.linalg.norm(b - a @ x) / np.linalg.norm(b)


def of_last_kind(sequence):
    """Return what a sequence knows of the last kind of systems."""
    return next(reversed(sequence._families.values()))


@pytest.fixture(autouse=True)
def together(monkeypatch):
    """Systems of tests are small: without this the clock would decide what is tested."""
    monkeypatch.setattr(alone, "SMALL", 0.0)


@pytest.fixture
def clockless(monkeypatch):
    """Seconds, which depend on the machine, make no new setup pay."""
    monkeypatch.setattr("precond.solvers.sequences.shelf.Shelf.due", lambda shelf, distance: False)
    monkeypatch.setattr("precond.solvers.sequences.shelf.Shelf.budget", property(lambda shelf: float("inf")))
    monkeypatch.setattr("precond.family.WarmStart", functools.partial(WarmStart, clock=lambda: 0.0))


@pytest.mark.usefixtures("clockless")
def test_every_system_is_solved_with_fewer_products_and_setups_than_alone():
    sequence, alone = precond.SolveSequence(rtol=1e-9, preconditioner="ilu0"), 0
    for i in range(8):
        a, b = related(i / 20)
        result = sequence.solve(a, b)
        assert result.converged
        assert residual(a, b, result.x) <= 1e-9
        alone += precond.solve(a, b, rtol=1e-9, preconditioner="ilu0").work.matvecs
    assert sequence.solved == 8
    assert sequence.setups < 8
    assert sequence.work.matvecs < alone


@pytest.mark.usefixtures("clockless")
def test_says_which_setup_was_used():
    sequence = precond.SolveSequence(method="gmres", preconditioner="ilut")
    first, second = sequence.solve(*related(0)), sequence.solve(*related(1))
    assert first.work.refreshes == 1
    assert second.work.refreshes == 0
    assert second.method == "gmres + ilut (set up for system 0)"


def test_measures_several_ways_and_takes_the_fastest():
    sequence = precond.SolveSequence()
    said = [sequence.solve(*related(i / 10)).method for i in range(8)]
    assert all("on trial" in text for text in said[:2])
    measured = {label: cost for label, cost in sequence.report if cost is not None}
    assert len(measured) >= 2
    for way in of_last_kind(sequence).ways:
        way.cost = 2.0
    of_last_kind(sequence).ways[1].cost = 1.0
    assert sequence.solve(*related(0)).method.startswith(of_last_kind(sequence).ways[1].label)


def test_a_factorization_is_tried_once_the_sequence_has_cost_several_times_as_much(monkeypatch):
    monkeypatch.setattr("precond.family.factorization_price", lambda look: Price(1e9, sure=True))
    sequence = precond.SolveSequence()
    for i in range(4):
        assert "lu" not in sequence.solve(*related(i / 10)).method.split(" (")[0].split(" + ")
    of_last_kind(sequence)._spent = 2e10
    assert "+ lu" in sequence.solve(*related(1)).method


def test_a_trial_that_takes_too_long_is_given_up_and_the_system_solved(monkeypatch):
    monkeypatch.setattr("precond.family.allowed", lambda ways, way, *, first: -1.0 if way.cost is None and
                        "lu" in way.label else float("inf"))  # fmt: skip
    sequence = precond.SolveSequence(rtol=1e-10)
    sequence.limits["atol"] = 0.0
    for i in range(3):
        a, b = related(i)
        result = sequence.solve(a, b)
        assert result.converged
        assert residual(a, b, result.x) <= 1e-10


def test_what_a_way_may_take_is_twice_what_the_others_take():
    def way(cost, solved):
        return types.SimpleNamespace(cost=cost, solved=solved)

    usual, lucky, new = way(1.0, 9), way(0.1, 5), way(None, 0)
    ways = [usual, lucky, new]
    assert allowed(ways, lucky, first=True) == 2.0  # the usual one can go on
    assert allowed(ways, lucky, first=False) == math.inf  # nobody else can
    assert allowed(ways, new, first=True) == allowed(ways, new, first=False) == 0.2
    assert allowed([usual, new], usual, first=True) == math.inf
    assert allowed([way(1.0, 1), way(2.0, 1)], way(None, 0), first=True) == 2.0
    assert allowed([usual, young := way(0.5, 1)], usual, first=True) == math.inf  # what is known of it may be luck
    assert allowed([usual, young], young, first=True) == 2.0


def test_a_system_that_the_usual_way_finds_hard_is_solved_by_the_second():
    sequence = precond.SolveSequence(rtol=1e-10)
    for i in range(8):
        sequence.solve(*related(i / 10))
    first, second = of_last_kind(sequence).ways[0], of_last_kind(sequence).ways[2]
    first.cost, first.solved, second.cost, second.solved = 1e-12, 9, 2e-12, 9  # so that no time is enough
    for way in of_last_kind(sequence).ways:
        way.cost = math.inf if way not in (first, second) else way.cost
    a, b = related(2)
    result = sequence.solve(a, b)
    assert residual(a, b, result.x) <= 1e-10
    assert result.method.startswith(second.label)


def test_ways_are_compared_by_what_a_digit_costs(monkeypatch):
    ticks = iter(range(10**9))
    monkeypatch.setattr("precond.solvers.sequences.ways.now", lambda: 1e-3 * next(ticks))
    monkeypatch.setattr("precond.family.factorization_price", lambda look: Price(1e9, sure=True))
    sequence = precond.SolveSequence()
    for _ in range(4):
        a, b = related(0)
        sequence.solve(a, b + 1e-6 * rng.standard_normal(N))  # starts with six digits from the second on
    easy, hard = of_last_kind(sequence).ways[0], of_last_kind(sequence).ways[2]
    assert of_last_kind(sequence)._mean_digits < 4
    assert 0.2 < easy.cost / hard.cost < 5  # though the second way has seen nothing but easy systems


def test_what_a_trial_cannot_solve_is_left_to_the_ways_not_tried_yet():
    sequence = precond.SolveSequence()
    sequence._family(as_operator(related(0)[0]), torch.zeros(1, N, dtype=torch.float64)).ways[0].iteration = GCRODR(
        2, 1
    )
    sequence.limits["max_iterations"] = 8
    result = sequence.solve(*related(0))
    assert result.converged
    assert result.method.startswith("gcrodr + lu")


@pytest.mark.parametrize("number", [0, 6])
def test_a_callback_that_stops_is_obeyed_by_every_choice(number):
    sequence = precond.SolveSequence(rtol=1e-10)
    for i in range(number):
        assert sequence.solve(*related(i / 10)).converged
    before, seen = {way.label: way.cost for way in of_last_kind(sequence).ways} if number else {}, []
    result = sequence.solve(*related(7.0), callback=lambda event: seen.append(event.iteration) or True)
    assert result.status is Status.STOPPED_USER
    assert seen == [0]
    costs = {way.label: way.cost for way in of_last_kind(sequence).ways}
    failed = [label for label, cost in costs.items() if cost == math.inf and before.get(label) != math.inf]
    assert not failed  # it says nothing of the way
    assert sequence.solve(*related(1)).converged


def test_families_that_alternate_are_each_remembered():
    sequence = precond.SolveSequence(method="gmres", preconditioner="ilut")
    small = poisson(6) + 0.3 * scipy.sparse.diags_array([np.ones(35)], offsets=[1])
    for i in range(8):
        a, b = related(i / 20) if i % 2 else (scipy.sparse.csr_array((1 + i / 100) * small), np.ones(36))
        assert sequence.solve(a, b).converged
    assert sequence.setups == 2
    assert len(sequence._families) == 2
    for n in range(3, 9):
        sequence.solve(np.eye(n), np.ones(n))
    assert len(sequence._families) == 4


def test_starts_where_the_residual_is_least_along_the_last_solution():
    a, b = related(0)
    sequence = precond.SolveSequence(method="gmres", preconditioner="jacobi", rtol=1e-10)
    sequence.solve(a, b)
    result = sequence.solve(a, -3 * b)
    assert result.converged
    assert result.iterations <= 1
    other = rng.standard_normal(N)
    assert sequence.solve(a, other).history[0] <= np.linalg.norm(other) * (1 + 1e-12)


@pytest.mark.usefixtures("clockless")
def test_a_preconditioner_that_no_longer_serves_is_set_up_again():
    sequence = precond.SolveSequence(method="gmres", preconditioner=ILUT(drop_tolerance=0.0), rtol=1e-8)
    a, b = related(0)
    assert sequence.solve(a, b).work.refreshes == 1
    scales = scipy.sparse.diags_array(10.0 ** rng.uniform(-4, 4, N))
    hard = scipy.sparse.csr_array(scales @ a[rng.permutation(N)])
    sequence.limits["max_iterations"] = 40
    result = sequence.solve(hard, hard @ np.ones(N))
    assert result.converged
    assert sequence.setups == 2
    assert sequence.solve(hard, hard @ rng.standard_normal(N)).iterations <= 3


def image(value):
    return torch.tensor([[1.0, value]], dtype=torch.float64)


def set_up(shelf, value, number, setup=1.0, seconds=0.1):
    entry = shelf.room()
    entry.held.stale = False
    shelf.renewed(entry, image(value), number, setup, seconds)
    return entry


def test_the_preconditioner_of_the_nearest_matrix_is_applied():
    shelf = Shelf(ILUT())
    first, second = set_up(shelf, 0.0, 0), set_up(shelf, 1.0, 1)
    assert shelf.choose(image(0.1), 2)[0] is first
    entry, distance = shelf.choose(image(0.9), 2)
    assert entry is second
    assert distance == pytest.approx(0.1 / np.hypot(1, 0.9))


def test_another_is_set_up_once_going_without_has_cost_as_much():
    shelf = Shelf(ILUT())
    entry = set_up(shelf, 0.0, 0)
    for number in range(1, 20):
        shelf.reused(entry, number, distance=0.1, seconds=0.3, served=True)
        assert not shelf.due(0.1)  # the same each time: a setup would not help the next one
    assert shelf.budget == pytest.approx(1.1)
    for number in range(20, 26):
        shelf.reused(entry, number, distance=0.5, seconds=0.5, served=True)
    assert shelf.rent >= 1.0
    entry, _ = shelf.choose(image(0.6), 26)
    assert entry.held.stale
    entry.held.stale = False
    shelf.renewed(entry, image(0.6), 26, 1.0, 0.1)
    assert not shelf.due(0.5)
    assert len(shelf.entries) == 2


def test_what_has_not_served_for_longest_makes_room():
    shelf = Shelf(ILUT())
    entries = [set_up(shelf, float(number), number) for number in range(6)]
    shelf.reused(entries[0], 6, 0.1, 0.2, served=True)
    assert shelf.room() is entries[1]
    assert entries[1].held.stale
    assert len(shelf.entries) == 6


def test_setups_that_serve_one_system_are_made_for_each_and_reuse_is_tried_now_and_then():
    shelf, due = Shelf(ILUT()), []
    set_up(shelf, 0.0, 0)
    for number in range(1, 26):
        due.append(shelf.due(1.0))
        if not due[-1]:
            shelf.reused(shelf.entries[0], number, 1.0, 1.2, served=False)
        set_up(shelf, float(number), number)
    assert 2 <= due.count(False) <= 8


def test_warm_starts_combine_solutions_and_give_up_what_does_not_help():
    a, b = related(0)
    operator, warm, work = as_operator(a), WarmStart(), Work()
    first, second = (torch.from_numpy(rng.standard_normal(N))[None] for _ in range(2))
    assert warm.start(operator, first, work) is None
    warm.keep(first)
    warm.keep(second)
    warm.depth = 2
    start = warm.start(operator, operator.matvec(2 * first - 3 * second), work)
    torch.testing.assert_close(start, 2 * first - 3 * second, rtol=1e-6, atol=1e-6)
    assert work.matvecs == 2
    warm.start(operator, torch.from_numpy(b)[None], work)
    assert warm.depth == 1
    warm.keep(torch.full_like(first, torch.nan))
    assert warm.start(operator, first, work) is None


def test_all_systems_at_once_are_solved_next_to_their_like_and_returned_in_order():
    places = rng.permutation(12)
    systems = [related(float(i)) for i in places]
    for parameters in (None, places[:, None]):
        seen = []
        sequence = precond.SolveSequence(method="gcrodr", preconditioner="ilu0")
        solve = sequence.solve
        sequence.solve = lambda a, b, solve=solve, seen=seen: seen.append(a) or solve(a, b)
        results = sequence.solve_all(systems, parameters=parameters)
        assert all(residual(a, b, r.x) <= 1e-8 for (a, b), r in zip(systems, results, strict=True))
        order = [next(i for i, (a, _) in enumerate(systems) if a is s) for s in seen]
        steps = np.abs(np.diff(places[order]))
        assert steps.sum() <= 2 * 11
    with pytest.raises(BadInputError, match="rows"):
        sequence.solve_all(systems, parameters=np.zeros((3, 1)))


@pytest.mark.usefixtures("clockless")
def test_recycling_takes_fewer_products_than_starting_anew():
    counts = {}
    for name, recycle in (("gcrodr", True), ("fresh", False)):
        sequence = precond.SolveSequence(method=GCRODR(25, 8), preconditioner="identity")
        for i in range(6):
            if not recycle:
                sequence = precond.SolveSequence(method=GCRODR(25, 8), preconditioner="identity")
            a = scipy.sparse.csr_array(poisson(M) - (0.3 + 0.001 * i) * scipy.sparse.eye_array(N))
            result = sequence.solve(a, np.random.default_rng(i).standard_normal(N))
            assert result.converged
            counts[name] = counts.get(name, 0) + result.work.matvecs
    assert counts["gcrodr"] < 0.95 * counts["fresh"]


@pytest.mark.usefixtures("clockless")
def test_compiled_loops_recycle_as_single_steps_do_and_count_the_same(monkeypatch):
    products, rates = [], []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(Remembering, "ahead", Iteration.ahead)
        calls = []
        ahead = GCRODR.recycle_ahead
        monkeypatch.setattr(GCRODR, "recycle_ahead", lambda *given, c=calls, f=ahead: c.append(1) or f(*given))
        sequence = precond.SolveSequence(rtol=1e-9, method=GCRODR(size=12, keep=4), preconditioner="jacobi")
        for i in range(6):
            assert sequence.solve(*related(i / 20)).converged
        assert bool(calls) == compiled
        products.append(sequence.work.matvecs)
        rates.append(of_last_kind(sequence).ways[0].iteration.rates)
    assert products[0] == products[1]
    np.testing.assert_allclose(np.concatenate(rates[0]), np.concatenate(rates[1]), rtol=1e-6)


@pytest.mark.usefixtures("clockless")
def test_recycling_that_does_not_pay_is_dropped():
    """Winds from everywhere: the space of one system is a burden for the next."""
    draw, iteration = np.random.default_rng(0), GCRODR(20, 10)
    sequence = precond.SolveSequence(method=iteration, preconditioner="identity", warm=False)
    memory, always, chosen = iteration.memory(), Work(), []
    for _ in range(10):
        name = f"convection-diffusion:n=16,peclet={draw.uniform(20, 200)},angle={draw.uniform(0, 360)}"
        a, b = load(name).matrix, draw.standard_normal(256)
        chosen.append(sequence.solve(a, b).work.matvecs)
        rows = torch.from_numpy(b)[None]
        running = iteration.recycle(memory, CountedOperator(as_operator(a), always), rows, torch.clone, 0 * rows)
        next(step for step in running if float(step.residual) <= 1e-8 * np.linalg.norm(b))
    assert not of_last_kind(sequence).ways[0].iteration.recycles
    assert sum(chosen) < 0.9 * always.matvecs


def test_systems_may_change_in_size_kind_and_form():
    sequence = precond.SolveSequence(rtol=1e-9)
    spd = poisson(6)
    cases = [
        (spd, np.ones(36)),
        (scipy.sparse.csr_array(spd + scipy.sparse.diags_array([np.ones(35)], offsets=[1])), np.ones(36)),
        (spd - 4.5 * scipy.sparse.eye_array(36), np.ones((36, 2))),
        (torch.from_numpy(poisson(4).toarray()), torch.ones(16, dtype=torch.float64)),
        (poisson(4).astype(np.complex128) * 1j, np.ones(16)),
        (spd, np.zeros(36)),
    ]
    for a, b in cases:
        result = sequence.solve(a, b)
        assert result.converged, result.message
        assert type(result.x) is type(b)
        assert result.x.shape == b.shape
    assert not result.x.any()


def test_what_does_not_converge_is_not_kept():
    sequence = precond.SolveSequence(method="gmres", preconditioner="identity", max_iterations=2)
    a, b = related(0)
    assert sequence.solve(a, b).status is Status.STOPPED_STEPS
    assert sequence.solve(a, b).status is Status.STOPPED_STEPS
    with pytest.raises(IncompatibleError, match="gmres"):
        precond.SolveSequence(method="cg").solve(a, b)


def test_callbacks_see_solutions_in_the_form_of_b():
    sequence, shapes = precond.SolveSequence(), []
    for i in range(2):
        a, b = related(i)
        sequence.solve(a, b[:, None], callback=lambda event: shapes.append(event.solution().shape))
    assert set(shapes) == {(N, 1)}


def family(n, k):
    return scipy.sparse.csr_array(load(f"convection-diffusion:n={n},peclet={50 + k},angle=30").matrix)


def solved_to(A, b, result, rtol=1e-8):
    A = A.toarray() if scipy.sparse.issparse(A) else np.asarray(A)
    r = np.linalg.norm(A @ np.asarray(result.x) - b, axis=0) / np.linalg.norm(b, axis=0)
    return result.converged and bool((r <= rtol * (1 + 1e-6)).all())


def test_sizes_patterns_types_and_forms_may_change_on_the_way():
    generator = np.random.default_rng(1)
    sequence = precond.SolveSequence()
    for step, n in enumerate((8, 12, 8, 10, 8, 8, 10, 8, 8)):
        A, b = family(n, step), generator.standard_normal(n * n)
        if step in (2, 5):
            A, b = A * (1 + 0.3j), b * (1 - 0.2j)
        if step in (3, 6):
            A = scipy.sparse.csr_array(A + 0.1 * scipy.sparse.random_array(A.shape, density=0.01, rng=generator))
        if step in (4, 7):
            b = np.stack([b, generator.standard_normal(n * n)], axis=1)
        form = A.toarray() if step == 8 else FunctionOperator(products(A), A.shape) if step == 1 else A
        assert solved_to(A, b, sequence.solve(form, b)), step
    assert sequence.solved == 9


def products(A):
    dense = torch.from_numpy(A.toarray())
    return lambda x: x @ dense.T


def test_a_bad_system_does_not_harm_those_that_follow():
    generator = np.random.default_rng(2)
    sequence = precond.SolveSequence()
    for step in range(8):
        A, b = family(9, step), generator.standard_normal(81)
        if step == 2:
            A.data[5] = np.nan
            with pytest.raises(BadInputError):
                sequence.solve(A, b)
        elif step == 3:
            with pytest.raises(ZeroDivisionError):
                sequence.solve(A, b, callback=lambda event: 1 / 0)
        elif step == 4:
            A = A.tolil()
            A[3, :] = 0
            assert not sequence.solve(scipy.sparse.csr_array(A), b).converged
        elif step == 5:
            with pytest.raises(BadInputError):
                sequence.solve(A, b[:-1])
            with pytest.raises(IncompatibleError):
                sequence.solve(np.ones((3, 4)), np.ones(3))
        else:
            assert solved_to(A, b, sequence.solve(A, b)), step


def test_a_sequence_can_be_pickled_and_goes_on():
    generator = np.random.default_rng(3)
    sequence = precond.SolveSequence()
    for step in range(4):
        sequence.solve(family(8, step), generator.standard_normal(64))
    again = pickle.loads(pickle.dumps(sequence))
    b = generator.standard_normal(64)
    assert solved_to(family(8, 5), b, again.solve(family(8, 5), b))
    assert (again.solved, sequence.solved) == (5, 4)


def test_gradients_are_refused_and_sizes_sorted_apart():
    with pytest.raises(BadInputError, match=r"precond\.solve"):
        precond.SolveSequence().solve(torch.eye(3, requires_grad=True), torch.ones(3))
    generator = np.random.default_rng(4)
    systems = [(family(n, 7 * k % 5), generator.standard_normal(n * n)) for k, n in enumerate((6, 7, 6, 6, 7, 6))]
    results = precond.SolveSequence().solve_all(systems)
    assert all(solved_to(A, b, result) for (A, b), result in zip(systems, results, strict=True))


def test_starts_that_do_not_help_are_given_up_for_a_while():
    generator = np.random.default_rng(5)
    A, work, starts = as_operator(family(8, 0)), Work(), []
    warm = WarmStart(price=16.0, clock=lambda: float(work.matvecs))
    for _ in range(24):
        b = torch.from_numpy(generator.standard_normal((1, 64)))
        starts.append(warm.start(A, b, work) is not None)
        warm.keep(b)
    assert 2 <= sum(starts) < 12
    b = torch.from_numpy(generator.standard_normal((1, 64)))
    x = torch.from_numpy(np.linalg.solve(family(8, 0).toarray(), b[0].numpy()))[None]
    helped = []
    for _ in range(24):
        start = warm.start(A, b, work)
        helped.append(start is not None and torch.allclose(start, x, rtol=1e-4, atol=1e-6))
        warm.keep(x)
    assert sum(helped[12:]) == 12  # once one has helped there is one for every system


@pytest.mark.parametrize(("products", "depth"), [(1, 0), (400, 5)])
def test_starts_are_as_deep_as_the_time_that_they_save(products, depth):
    generator, A = np.random.default_rng(6), as_operator(family(8, 0))
    basis = torch.from_numpy(generator.standard_normal((5, 64)))
    work, taken = Work(), []
    warm = WarmStart(clock=lambda: float(work.matvecs))  # products are what takes time
    for _ in range(40):  # in a space of five dimensions, each of which matters less than the one before
        weights = torch.from_numpy(generator.standard_normal(5) * 0.3 ** np.arange(5.0))
        x, before = (weights @ basis)[None], work.matvecs
        warm.start(A, A.matvec(x), work)
        taken.append(work.matvecs - before)
        warm.keep(x)
        warm.price = 2 * products / 8
    assert sorted(taken)[20] == depth


def test_starts_of_smooth_sequences_are_as_good_as_their_solutions():
    generator, A = np.random.default_rng(8), as_operator(family(8, 0))
    parts = torch.from_numpy(generator.standard_normal((6, 64)))
    warm, lefts = WarmStart(price=1.0, clock=lambda: 0.0), []
    for i in range(24):  # images of neighbours are nearly dependent: their Gram matrix has lost what the last two say
        x = (torch.cos(0.003 * i * torch.arange(6) + torch.arange(6)).double() @ parts)[None]
        b = A.matvec(x)
        start = warm.start(A, b, Work())
        lefts.append(1.0 if start is None else float((b - A.matvec(start)).norm() / b.norm()))
        assert abs(lefts[-1] - warm.left) <= 1e-9
        warm.keep(x)
    assert max(lefts[12:]) <= 6e-7


def test_a_callback_may_ask_to_be_called_less_often():
    class Seldom:
        pace, seen = 7, ()

        def __call__(self, event):
            self.seen = (*self.seen, event.iteration)

    seldom, always = Seldom(), []
    A, b = poisson(M), np.ones(N)
    result = precond.solve(A, b, method="cg", preconditioner="jacobi", callback=lambda e: always.append(e.iteration))
    sequence = precond.SolveSequence(method="cg", preconditioner="jacobi", warm=False)
    drives = solve_linear(
        as_operator(A), torch.from_numpy(b)[None], CG(), Jacobi(), callback=seldom
    )  # fmt: skip
    assert drives.iterations == result.iterations == sequence.solve(A, b).iterations
    assert len(drives.history) == len(result.history) == len(always)
    assert len(seldom.seen) <= len(always) // 7 + 3


def test_chains_are_not_given_a_multigrid():
    chain = scipy.sparse.diags_array([-1.0, 2.001, -1.0], offsets=[-1, 0, 1], shape=(20_000, 20_000)).tocsr()
    sequence = precond.SolveSequence()
    assert sequence.solve(chain, np.ones(20_000)).converged
    assert next(label for label, _ in sequence.report) == "cg + ic0"


def told(policy, seconds):
    """Return which systems a policy has solved for themselves, told that one takes ``seconds[apart]``."""
    chosen = []
    for _ in range(100):
        chosen.append(policy.due)
        policy.note(seconds[chosen[-1]], apart=chosen[-1])
    return chosen


def test_small_systems_are_solved_for_themselves_where_that_costs_less(monkeypatch):
    monkeypatch.setattr(alone, "SMALL", 2e-3)
    slight, apart = told(alone.Alone(), (6e-4, 3e-4)), told(alone.Alone(), (1.5e-3, 1e-3))
    assert not slight[0]
    assert sum(slight) >= 94  # all but the first, and one in 32
    assert 80 <= sum(apart) <= 92
    assert sum(told(alone.Alone(), (1e-3, 1.5e-3))) <= 8
    assert sum(told(alone.Alone(), (1e-2, 1e-3))) == 0  # it is not small beside what could be saved


def test_systems_solved_for_themselves_are_certified_and_counted(monkeypatch):
    monkeypatch.setattr(alone, "SMALL", math.inf)
    monkeypatch.setattr(alone, "_bookkeeping", math.inf)
    sequence, seen = precond.SolveSequence(), []
    for i in range(6):
        a, b = related(i / 10)
        result = sequence.solve(a, b, callback=lambda event: seen.append(event.solution().shape))
        assert result.converged
        assert residual(a, b, result.x) <= 1e-8
        assert result.work.matvecs > 0
    assert "each for itself" in result.method
    assert set(seen) == {b.shape}
    assert sequence.solved == 6
    with pytest.raises(BadInputError):
        sequence.solve(a, b[:-1])
