"""SciPy's solvers by their own names, arguments and return values, run by this library.

Existing code switches by one import::

    from precond.scipy import cg, gmres, lsqr, minres      # was: from scipy.sparse.linalg import ...
    from precond.scipy import least_squares, minimize      # was: from scipy.optimize import ...

What is the same: arguments and defaults (of SciPy 1.17), ``(x, info)``, types and shapes, when callbacks are called
and with what, a zero right-hand side, an exact initial guess, ``x0="Mb"``, ``A.psolve``, and `ValueError` for shapes
that do not fit. What differs, each on purpose:

1. ``info == 0`` is given only when the recomputed residual ``b - A x`` meets the tolerance (SciPy's ``cg`` trusts its
   recurrence). Where a drifting recurrence claims too much, the iteration goes on.
2. Where no further progress is possible, the run ends before ``maxiter``, with ``info`` the number of iterations.
   ``maxiter=0`` gives ``info=1`` unless the initial guess is a solution; SciPy gives 0.
3. ``gcrotmk`` keeps harmonic Ritz vectors between cycles and systems (GCRO-DR), whatever ``truncate`` says; of the
   ``m + k`` vectors of a cycle fewer than ``k`` are kept where nothing is handed on in ``CU``. Of SciPy's own tests
   of these solvers two do not hold here, ``test_CU`` and ``test_preconditioner`` of ``gcrotmk``: they want exactly as
   many products as SciPy's takes, and ours takes one less.
4. ``minres`` stops by ``||b - A x|| <= rtol ||b||``, as documented there; SciPy compares with ``||A|| ||x||``.
5. ``minimize`` takes the names of this library's methods, and ``success`` means a certificate, in it and in
   ``least_squares``, whose ``status`` is 1 with one, whatever tolerance was met.
6. ``nfev`` of ``least_squares`` counts every call of the residuals, also those for differences, and a ``Bounds`` of
   one number stands for all variables.
"""

from precond.scipy.fits import least_squares
from precond.scipy.nonsymmetric import bicgstab, gcrotmk
from precond.scipy.optimize import minimize
from precond.scipy.rectangular import lsmr, lsqr
from precond.scipy.systems import cg, gmres, minres

__all__ = ["bicgstab", "cg", "gcrotmk", "gmres", "least_squares", "lsmr", "lsqr", "minimize", "minres"]
