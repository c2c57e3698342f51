"""Empirical interpolation and reduced bases against dense references in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import precond
from precond.core import BadInputError, PrecondError
from precond.math.empirical_interpolation import interpolate

N = 200
X = (np.arange(N + 1) + 0.5) / (N + 1)
TRAINING = np.linspace(0.1, 0.9, 161)


def conductivity(mu):
    return 1 + 0.8 * np.exp(-((X - mu) ** 2) / 0.02)


def diffusion(mu):
    """Return the 1-D diffusion matrix of the conductivity, and a right-hand side of ones."""
    g = conductivity(mu)
    return np.diag(g[:-1] + g[1:]) - np.diag(g[1:-1], 1) - np.diag(g[1:-1], -1), np.ones(N)


def plain_interpolation(family, count):
    """Greedy empirical interpolation as printed: solve for the coefficients of every member each time."""
    members = [int(np.abs(family).max(axis=1).argmax())]
    places = [int(np.abs(family[members[0]]).argmax())]
    while len(members) < count:
        matrix = family[np.ix_(members, places)].T
        left = family - np.linalg.solve(matrix, family[:, places].T).T @ family[members]
        members.append(int(np.abs(left).max(axis=1).argmax()))
        places.append(int(np.abs(left[members[-1]]).argmax()))
    return members, places


def test_members_and_places_are_those_of_the_greedy_choice():
    family = np.stack([conductivity(mu) for mu in TRAINING])
    found = interpolate(torch.from_numpy(family), tolerance=1e-14, limit=12)
    assert (found.members, found.places) == plain_interpolation(family, 12)
    weights = found.coefficients(torch.from_numpy(family)).numpy()
    np.testing.assert_allclose(weights[found.members], np.eye(12), atol=1e-9)
    left = np.abs(family - weights @ family[found.members]).max() / np.abs(family).max()
    assert left == pytest.approx(found.errors[-1], rel=1e-6)
    assert all(later <= 1.05 * sooner for sooner, later in zip(found.errors[1:], found.errors[2:], strict=False))


def test_matrices_are_separated_as_well_as_is_known():
    """The errors of a prototype with 2, 4, 8, 12 and 16 matrices: 4.2e-1, 2.8e-1, 3.0e-2, 7.9e-4, 1.1e-5."""
    family = torch.from_numpy(np.stack([conductivity(mu) for mu in TRAINING]))
    rng = np.random.default_rng(0)
    for count, known in ((4, 2.8e-1), (8, 3.0e-2), (12, 7.9e-4), (16, 1.1e-5)):
        found = interpolate(family, tolerance=1e-14, limit=count)
        matrices = [diffusion(TRAINING[m])[0] for m in found.members]
        worst = 0.0
        for mu in rng.uniform(0.1, 0.9, 20):
            exact = diffusion(mu)[0]
            weights = found.coefficients(torch.from_numpy(conductivity(mu))).numpy()
            near = sum(w * a for w, a in zip(weights, matrices, strict=True))
            worst = max(worst, np.linalg.norm(near - exact) / np.linalg.norm(exact))
        assert worst <= 3 * known


@pytest.fixture(scope="module")
def reduced():
    return precond.ReducedBasis(diffusion, conductivity, TRAINING, tolerance=1e-6)


def test_solutions_and_estimates_for_parameters_that_were_not_trained(reduced):
    assert len(reduced.chosen) < 35
    for mu in np.random.default_rng(1).uniform(0.1, 0.9, 10):
        a, b = diffusion(mu)
        result = reduced.solve(mu)
        true = np.linalg.norm(b - a @ result.x) / np.linalg.norm(b)
        assert result.converged
        assert true <= 1e-6
        assert 0.5 * true <= result.certificate.value <= 1e-6
        certified = reduced.solve(mu, certify=True)
        assert certified.certificate.value == pytest.approx(true, rel=1e-5)
        assert certified.converged == (true <= 1e-6)
        assert np.linalg.norm(result.x - np.linalg.solve(a, b)) <= 1e-2 * np.linalg.norm(result.x)


def affine(mu):
    """Two parameters, exactly affine."""
    first, second = np.ones(N + 1), 1.0 * (X > 0.5)
    g = mu[0] * first + mu[1] * second
    return np.diag(g[:-1] + g[1:]) - np.diag(g[1:-1], 1) - np.diag(g[1:-1], -1), np.sin(3 * X[1:]) + mu[0]


def test_the_estimate_keeps_its_digits_where_the_usual_one_cannot():
    training = [(s, t) for s in np.linspace(1, 2, 5) for t in np.linspace(0, 3, 5)]
    family = precond.ReducedBasis(affine, lambda mu: mu, training, tolerance=1e-11)
    assert len(family.interpolation.members) == 3
    mu = (1.37, 0.81)
    a, b = affine(mu)
    result = family.solve(mu)
    true = np.linalg.norm(b - a @ result.x) / np.linalg.norm(b)
    assert true < 2e-11
    assert result.certificate.value < 1e-11  # the root of the rounding unit, 1e-8, is far away
    assert result.converged

    # the usual form: the Gram matrix of b_m and A_m v_i
    terms = [affine(training[m]) for m in family.interpolation.members]
    weights = family.interpolation.coefficients(torch.tensor([1.0, *mu], dtype=torch.float64)).numpy()
    v = family.basis.numpy()
    columns = [b for _, b in terms] + [a @ row for row in v for a, _ in terms]
    c = np.concatenate([weights, -np.outer(v @ result.x, weights).ravel()])
    gram = np.stack(columns) @ np.stack(columns).T
    assert abs(c @ gram @ c) ** 0.5 / np.linalg.norm(b) > 1e-10


def test_estimates_fall_and_a_small_basis_does_not_claim_what_it_cannot():
    family = precond.ReducedBasis(diffusion, conductivity, TRAINING[::8], tolerance=1e-6, size=3)
    assert len(family.chosen) == 3
    result = family.solve(0.333)
    a, b = diffusion(0.333)
    assert not result.converged
    assert result.certificate.value == pytest.approx(np.linalg.norm(b - a @ result.x) / np.linalg.norm(b), rel=1e-2)
    assert family.errors[0] >= family.errors[-1]


def test_indefinite_and_complex_families():
    def helmholtz(k):
        a = 2 * np.eye(60) - np.eye(60, k=1) - np.eye(60, k=-1) - (k / 61) ** 2 * np.eye(60) + 0j
        a[-1, -1] += 1j * k / 61
        return a, np.exp(1j * np.arange(60) / 9) * (1 + 0 * k)

    family = precond.ReducedBasis(
        helmholtz, lambda k: np.array([k**2, k], dtype=complex), np.linspace(5, 25, 41), tolerance=1e-9
    )
    for k in (7.77, 19.3):
        result = family.solve(k, certify=True)
        assert result.converged, result.message
        assert np.iscomplexobj(result.x)


def test_bad_input():
    with pytest.raises(BadInputError):
        precond.ReducedBasis(diffusion, conductivity, [])
    with pytest.raises(BadInputError, match="finite"):
        precond.ReducedBasis(diffusion, lambda mu: [np.nan], [0.1, 0.2])
    with pytest.raises(PrecondError):
        precond.ReducedBasis(lambda mu: (np.zeros((3, 3)), np.ones(3)), lambda mu: [mu], [0.1, 0.2])


def test_a_coarse_interpolation_is_seen_in_the_estimate():
    """Conductivities that vary a hundredfold: the residual is hundreds of times the error of the interpolation."""

    def strong(mu):
        return 0.01 + np.exp(-((X - mu) ** 2) / 0.02)

    def system(mu):
        g = strong(mu)
        return np.diag(g[:-1] + g[1:]) - np.diag(g[1:-1], 1) - np.diag(g[1:-1], -1), np.ones(N)

    family = precond.ReducedBasis(system, strong, TRAINING[::4], tolerance=1e-3, terms=12)
    for mu in np.random.default_rng(2).uniform(0.1, 0.9, 10):
        a, b = system(mu)
        result = family.solve(mu)
        true = np.linalg.norm(b - a @ result.x) / np.linalg.norm(b)
        assert 0.3 * true <= result.certificate.value
        assert not result.converged or true <= 1e-3

    finer = precond.ReducedBasis(system, strong, TRAINING[::4], tolerance=1e-3)
    first = interpolate(finer._family, tolerance=1e-4, limit=50)
    assert len(finer.interpolation.members) > len(first.members)
    assert all(finer.solve(mu).converged for mu in TRAINING[::4])


def test_coefficients_of_any_scale_count():
    """One coefficient is twelve orders below the constant, and its matrix as far above."""

    def system(mu):
        return diffusion(0.5)[0] + 1e12 * (1e-12 * mu) * np.eye(N), np.ones(N)

    family = precond.ReducedBasis(system, lambda mu: [1e-12 * mu], np.linspace(0, 1, 21), tolerance=1e-8)
    assert len(family.interpolation.members) == 2
    a, b = system(0.77)
    assert np.linalg.norm(b - a @ family.solve(0.77).x) <= 1e-8 * np.linalg.norm(b)


@pytest.mark.parametrize("training", [[0.5], [0.5, 0.5, 0.5]])
def test_parameters_beyond_those_of_training_are_not_vouched_for(training):
    family = precond.ReducedBasis(
        lambda mu: (diffusion(0.5)[0] + mu * np.eye(N), np.ones(N)), lambda mu: [mu], training, tolerance=1e-8
    )
    assert family.solve(0.5).converged
    assert not family.solve(0.500001).converged
    assert not family.solve(0.7).converged


def test_coefficients_that_do_not_describe_the_matrix_end_without_a_claim():
    family = precond.ReducedBasis(
        lambda mu: (diffusion(0.5)[0] + np.diag(np.sin(5 * mu * X[1:])), np.ones(N)),
        lambda mu: [mu], np.linspace(0, 1, 21), tolerance=1e-4,
    )  # fmt: skip
    assert not any(family.solve(mu).converged for mu in np.linspace(0.03, 0.98, 20))


def test_zero_right_hand_sides_have_the_solution_zero():
    family = precond.ReducedBasis(
        lambda mu: (np.diag([1.0, 2.0, 3.0 + mu]), (mu - 0.3) * np.ones(3)), lambda mu: [mu], [0.17, 0.53, 0.91]
    )
    result = family.solve(0.3)
    assert result.converged
    np.testing.assert_array_equal(result.x, np.zeros(3))


def test_single_precision_is_estimated_as_it_is_returned():
    family = precond.ReducedBasis(
        lambda mu: tuple(part.astype(np.float32) for part in affine(mu)), lambda mu: mu,
        [(s, t) for s in (1.0, 1.5, 2.0) for t in (0.0, 1.0, 3.0)], tolerance=1e-2, size=9,
    )  # fmt: skip
    result = family.solve((1.25, 2.0))
    a, b = (part.astype(np.float32).astype(float) for part in affine((1.25, 2.0)))
    true = np.linalg.norm(b - a @ result.x.astype(float)) / np.linalg.norm(b)
    assert result.x.dtype == np.float32
    assert true <= 1.1 * result.certificate.value


@pytest.mark.parametrize(("scale", "size"), [(2.0**-900, 1), (1, 2.0**700), (1, 2.0**-700), (2.0**900, 2.0**950)])
def test_the_units_of_matrices_and_right_hand_sides_do_not_matter(scale, size):
    def assemble(mu):
        return (np.diag([1.0, 2.0, 3.0, 4.0]) + mu * np.eye(4)) * scale, np.array([1.0, 1.0, 2.0, mu]) * size

    plain = precond.ReducedBasis(assemble, lambda mu: [mu], np.linspace(0, 1, 7))
    for mu in (0.05, 0.55):
        want = np.array([1.0, 1.0, 2.0, mu]) / (np.arange(1, 5) + mu)
        for certify in (False, True):
            result = plain.solve(mu, certify=certify)
            assert result.converged
            np.testing.assert_allclose(result.x * scale / size, want, rtol=1e-8)


def test_systems_that_do_not_belong_together_are_refused():
    def grows(mu):
        return np.eye(3 if mu < 0.5 else 4), np.ones(3 if mu < 0.5 else 4)

    parameters = np.linspace(0, 1, 5)
    with pytest.raises(BadInputError, match="same shape"):
        precond.ReducedBasis(grows, lambda mu: [mu], parameters)
    with pytest.raises(BadInputError, match="different numbers"):
        precond.ReducedBasis(affine, lambda mu: [mu] * (1 + int(mu > 0.5)), parameters)
    family = precond.ReducedBasis(lambda mu: (np.eye(3) * (1 + mu), np.ones(3)), lambda mu: [mu], parameters)
    with pytest.raises(BadInputError, match="finite"):
        family.solve(float("nan"))
