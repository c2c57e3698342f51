"""Batches of dense systems: what is known of each member, how it ended, and the result they make together."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from precond.core import Certificate, Member, Result, Status, Work
from precond.solvers.systems.certify import RESIDUAL, excess, residual_certificate


@dataclasses.dataclass
class Batch:
    """Systems ``A_i x_i = b_i`` and what has been found of their solutions.

    Attributes:
        matrices: Shape ``[members, n, n]``.
        b: Right-hand sides in rows, shape ``[members, k, n]``.
        x: Starting points, in the end solutions, shape ``[members, k, n]``; written in place.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        work: The account to charge.
        members: The outcomes so far, by number.
    """

    matrices: Tensor
    b: Tensor
    x: Tensor
    rtol: float
    atol: float
    work: Work
    members: dict[int, Member] = dataclasses.field(default_factory=dict)

    def bounds(self, b: Tensor) -> Tensor:
        """Return ``max(rtol ||b||, atol)`` of rows ``[..., n]``."""
        return (self.rtol * torch.linalg.vector_norm(b, dim=-1).double()).clamp(min=self.atol)

    def judge(self, numbers: list[int], iterations: list[int], failures: list[Status]) -> list[int]:
        """Recompute the residuals of members, note how they ended, and return those that have not converged.

        Args:
            numbers: Of the members.
            iterations: Of each.
            failures: What to say of each if its certificate does not hold.

        Returns:
            The numbers of the members whose certificate does not hold.
        """
        wide = torch.promote_types(self.b.dtype, torch.float64)
        several = len(numbers) > 1
        matrices, b, x = (
            (t[numbers] if several else t[numbers[0] : numbers[0] + 1]).to(wide)
            for t in (self.matrices, self.b, self.x)
        )
        r = b - (torch.bmm(matrices, x.mT).mT if several else (matrices[0] @ x[0].mT).mT[None])
        self.work.matvecs += r.shape[0] * r.shape[1]
        sizes, norms = torch.linalg.vector_norm(b, dim=-1), torch.linalg.vector_norm(r, dim=-1)
        lengths = torch.linalg.vector_norm(x, dim=-1)
        scales = torch.linalg.vector_norm(matrices.flatten(1), dim=-1)
        return self.note(numbers, iterations, failures, sizes, norms, lengths, scales)

    def note(
        self, numbers: list[int], iterations: list[int], failures: list[Status],
        sizes: Tensor, norms: Tensor, lengths: Tensor, scales: Tensor,
    ) -> list[int]:  # fmt: skip
        """Note the certificates that recomputed norms amount to, as `judge` does.

        Args:
            numbers: Of the members.
            iterations: Of each.
            failures: What to say of each if its certificate does not hold.
            sizes: ``||b||``, shape ``[len(numbers), k]``, as the next two.
            norms: ``||b - A x||``.
            lengths: ``||x||``.
            scales: ``||A||_F``, shape ``[len(numbers)]``.

        Returns:
            The numbers of the members whose certificate does not hold.
        """
        failed = []
        rows = zip(sizes.tolist(), norms.tolist(), lengths.tolist(), scales.tolist(), strict=True)
        for number, count, failure, (size, norm, length, scale) in zip(
            numbers, iterations, failures, rows, strict=True
        ):
            certificate = residual_certificate(norm, size, length, scale, self.rtol, self.atol)
            status = Status.CONVERGED_RESIDUAL if certificate.holds else failure
            self.members[number] = Member(status, certificate, count)
            if not certificate.holds:
                failed.append(number)
        return failed

    def give_up(self, number: int, status: Status) -> None:
        """Note that a member cannot be solved; its solution is NaN, so that nobody takes it for one."""
        self.x[number] = math.nan
        self.members[number] = Member(status, Certificate(RESIDUAL, math.nan, self.rtol), 0)

    def result(self, method: str) -> Result:
        """Return the result of all members; ``x`` in rows ``[members, k, n]``."""
        members = tuple(self.members[number] for number in range(len(self.b)))
        worst = max(members, key=lambda member: (not member.converged, excess(member.certificate)))
        return Result(
            self.x, worst.status, worst.certificate, self.work, max(m.iterations for m in members), method,
            members=members,
        )  # fmt: skip
