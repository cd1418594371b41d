"""What training minimises: losses of a restoration and of its flow network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from davsr.models.davsr import DAVSR, Start
from davsr.models.flow import SPyNet
from davsr.models.motion import frames_at_lr_times
from davsr.models.prior import Observation
from davsr.models.recurrent_prior import RecurrentPrior
from davsr.models.shown import agree_one_by_one
from davsr.ops import resize_flow
from davsr.options import Options
from davsr.physics.degradation import Degradation

_COARSER = 0.8  # weight of a level in the loss of the flow network, over that of the next, finer one


def charbonnier(x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """mean sqrt((x - y)^2 + epsilon), in float32."""
    return ((x.float() - y.float()).square() + epsilon).sqrt().mean()


def psnr_loss(x: Tensor, y: Tensor) -> Tensor:
    """Minus the mean PSNR of the frames of x, y [b, T, c, H, W] over 100 dB, in float32.

    Errors far below 8 bits do not count.
    """
    mse = (x.float() - y.float()).square().mean(dim=(2, 3, 4))
    return (mse + 1e-7).log10().mean() / 10


class VideoObjective(nn.Module):
    """The loss of a restoration (`train.loss`), with `stage_weight` times that of the earlier x_k.

    And `pictures_weight` times that of the LR frames by themselves, as the recurrent prior sharpens them: what it
    carries through a clip learns from that sooner than through the fusion. Without `frames_weight` it is all that
    counts, and nothing is computed at the other HR times.
    """

    def __init__(self, model: DAVSR, options: Options) -> None:
        super().__init__()
        self.model = model
        epsilon = options.train.loss_epsilon
        self.loss: Callable[[Tensor, Tensor], Tensor]
        self.loss = psnr_loss if options.train.loss == "psnr" else lambda x, y: charbonnier(x, y, epsilon)
        self.stage_weight = options.train.stage_weight
        self.frames_weight, self.pictures_weight = options.train.frames_weight, options.train.pictures_weight

    def forward(
        self,
        lq: Tensor,
        gt: Tensor,
        sigma: Tensor,
        degradation: Degradation | None,
        start: Start | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """lq [b, t, c, h, w], gt [b, T, c, H, W], sigma [b] -> loss, and means over the batch to log
        (`start`: see `DAVSR`).
        """
        A = degradation or self.model.degradation
        if not self.frames_weight:
            loss = self._of_pictures(self._looked(lq, sigma, A, start), lq, gt, sigma, A)
            return self.pictures_weight * loss, {"loss_final": loss.detach()}
        frames, stages = self.model(lq, sigma, degradation=A, start=start, return_stages=True)
        loss = self.loss(frames, gt)
        scalars = {"loss_final": loss.detach()}
        for name, values in (("alpha", stages.alpha), ("beta", stages.beta)):
            scalars.update({f"{name}_{k}": v for k, v in enumerate(values.detach().mean(dim=0), start=1)})
        if self.stage_weight:
            earlier = [self.loss(x.transpose(1, 2), gt) for x in stages.x[:-1]]
            loss = loss + self.stage_weight * sum(earlier, loss.new_zeros(()))
        loss = self.frames_weight * loss
        within = stages.within or {}
        if self.pictures_weight and "pictures" in within:
            loss = loss + self.pictures_weight * self._of_pictures(within["pictures"], lq, gt, sigma, A)
        return loss, scalars

    def _looked(self, lq: Tensor, sigma: Tensor, A: Degradation, start: Start | None) -> Tensor:
        """The LR frames as the recurrent prior sharpens them, [b, t, c, H, W]."""
        prior = self.model.enhance
        assert isinstance(prior, RecurrentPrior)
        with torch.no_grad():
            x, motion, _ = start or self.model.start(lq, A, sigma)
            alpha = self.model.hyper(sigma, A)[0][:, 0]
            z = A.data_step(x, lq.transpose(1, 2), alpha) if self.model.options.data_step else x
        return prior.look(z, alpha, Observation(lq, A, sigma, motion)).fine[:, :, :3]

    def _of_pictures(self, pictures: Tensor, lq: Tensor, gt: Tensor, sigma: Tensor, A: Degradation) -> Tensor:
        """The loss of LR frames by themselves, once they agree with the data."""
        alpha = self.model.hyper(sigma, A)[0][:, 0]
        t = lq.shape[1]
        at_lr_times = frames_at_lr_times(self.model.interpolate.times(t, A), t)
        return self.loss(agree_one_by_one(pictures, lq, A, alpha, sigma), gt[:, at_lr_times])


class FlowObjective(nn.Module):
    """The end-point error sqrt(|d|^2 + epsilon), mean over pixels, then over levels.

    The coarse ones learn only if they are told.

    Each level counts `_COARSER` times as much as the next, finer one (RAFT: Teed and Deng, ECCV 2020).
    """

    def __init__(self, model: SPyNet, options: Options) -> None:
        super().__init__()
        self.model, self.epsilon = model, options.train.loss_epsilon

    def forward(self, reference: Tensor, support: Tensor, flow: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Images [b, 3, h, w], flow [b, 2, h, w] in pixels."""
        total, weights, error = flow.new_zeros(()), 0.0, flow.new_zeros(())
        for level in self.model.coarse_to_fine(reference, support):
            squared = (resize_flow(level, flow.shape[2:]) - flow).square().sum(dim=1)
            error = (squared + self.epsilon).sqrt().mean()
            total, weights = _COARSER * total + error, _COARSER * weights + 1
        return total / weights, {"loss_final": error.detach()}
