"""How strongly each loss pulls on the encoder, whether or not its gradient is applied."""

from __future__ import annotations

import torch

from benchbench.agent.lapo import LAPO
from benchbench.data.batch import Batch


def encoder_signals(agent: LAPO, batch: Batch, seed: int) -> dict[str, float | None]:
    """Norms and cosine of the critic's and the VAE's gradients on the encoder.

    Both are computed on one batch at the same weights, with the features attached to each loss,
    and apart from ``.grad``; noise comes from ``seed``. Keys as in ``training.parquet``. Without
    an encoder (``observation: state``) there is nothing to measure: all None.
    """
    parameters = list(agent.obs_encoder.parameters())
    if not parameters:
        return {"grad_critic": None, "grad_vae": None, "grad_cosine": None}
    with agent.noise_from(seed):
        fixed = agent.fix(batch)
        features = agent.features(fixed.obs, batch.proprio_BP)
        critic_loss, _ = agent.critic_loss(features, batch, fixed)
        vae_loss, _ = agent.vae_loss(features, batch, fixed)
        critic_grad = _flat(torch.autograd.grad(critic_loss, parameters, retain_graph=True))
        vae_grad = _flat(torch.autograd.grad(vae_loss, parameters))
    critic_norm, vae_norm = critic_grad.norm(), vae_grad.norm()
    norms = critic_norm * vae_norm
    return {
        "grad_critic": critic_norm.item(),
        "grad_vae": vae_norm.item(),
        "grad_cosine": (critic_grad @ vae_grad / norms).item() if norms > 0 else None,
    }


def _flat(gradients: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([gradient.double().flatten() for gradient in gradients])
