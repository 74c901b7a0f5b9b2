"""Muon: momentum whose matrix updates are made orthogonal (Jordan et al. 2024, quintic Newton-Schulz)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

A, B, C = 3.4445, -4.7750, 2.0315


def orthogonal(update: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return the nearest semi-orthogonal matrix, roughly: float[rows, columns]."""
    matrix = update / (update.norm() + 1e-7)
    tall = matrix.size(0) > matrix.size(1)
    matrix = matrix.T if tall else matrix
    for _ in range(steps):
        gram = matrix @ matrix.T
        matrix = A * matrix + (B * gram + C * gram @ gram) @ matrix
    return matrix.T if tall else matrix


class Muon(torch.optim.Optimizer):
    """Train the hidden matrices; embeddings and norms belong to AdamW."""

    def __init__(
        self, matrices: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.1
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every matrix by an orthogonal update, scaled to its shape."""
        for group in self.param_groups:
            for matrix in group["params"]:
                speed = self.state[matrix].setdefault("speed", torch.zeros_like(matrix))
                speed.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(speed, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["decay"])
                matrix.add_(update, alpha=-group["lr"] * max(1.0, matrix.size(0) / matrix.size(1)) ** 0.5)
