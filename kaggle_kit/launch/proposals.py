"""What to change in a plan: what would make it fit its limit, or what the time that is left would be good for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from kaggle_kit.launch.plan import MARGIN, Option, Plan, Work

_LONGER = 10  # times the epochs asked for: more is no longer a proposal but another undertaking
_STEP, _LEAST = 32, 64  # image sizes to propose


def less(plan: Plan) -> Iterator[Option]:
    """Yield ways to stay within the limit, one change each."""
    work = plan.work
    if (epochs := _most(plan, [replace(work, epochs=epochs) for epochs in range(1, work.epochs)])) is not None:
        yield _option(plan, f"epochs={epochs.epochs} instead of {work.epochs}", epochs)
    if (fewer := _most(plan, [work.first_folds(count) for count in range(1, work.folds)])) is not None:
        folds = "--fold 0" if fewer.folds == 1 else f"--fold 0-{fewer.folds - 1}"
        yield _option(plan, f"{folds}: {fewer.folds} of {work.folds} folds", fewer)
    yield from _smaller_images(plan)
    for devices in range(work.devices + 1, work.folds + 1):
        if _fits(plan, wider := replace(work, devices=devices)):
            yield _option(plan, f"--launcher local --devices {devices}, on a machine that has them", wider)
            break
    if work.views > 1 and _fits(plan, plain := replace(work, views=1)):
        yield _option(plan, f"--tta none instead of {work.views} views", plain)


def more(plan: Plan) -> Iterator[Option]:
    """Yield what the time that is left would be good for."""
    work, room = plan.work, plan.limit * (1 - MARGIN)
    each = (sum(plan.rates.seconds(replace(work, epochs=2 * work.epochs))) - plan.seconds) / work.epochs
    epochs = work.epochs + (room - plan.seconds) / each
    if math.isfinite(epochs) and epochs >= work.epochs + 1:
        longer = replace(work, epochs=min(int(epochs + 1e-9), _LONGER * work.epochs))
        bounded = f", {_LONGER} times as many; the time would do for more" if epochs >= longer.epochs + 1 else ""
        yield _option(plan, f"up to epochs={longer.epochs}{bounded}", longer)


def _smaller_images(plan: Plan) -> Iterator[Option]:
    """The largest smaller size that fits, if time goes with the pixels, as it does for most models on all but tiny images."""
    height, width = plan.image_size
    for side in range((min(height, width) - 1) // _STEP * _STEP, _LEAST - 1, -_STEP):
        scale = (min(height, width) / side) ** 2
        seconds = sum(plan.rates.times(scale).seconds(plan.work))
        if seconds <= plan.limit * (1 - MARGIN):
            size = (
                str(side)
                if height == width
                else f"[{height * side // min(height, width)}, {width * side // min(height, width)}]"
            )
            yield Option(f"image_size={size}, about: measure again with it", seconds)
            return


def _most(plan: Plan, candidates: Sequence[Work]) -> Work | None:
    """The last of ``candidates`` that fits."""
    fitting = [work for work in candidates if _fits(plan, work)]
    return fitting[-1] if fitting else None


def _fits(plan: Plan, work: Work) -> bool:
    return replace(plan, work=work).fits


def _option(plan: Plan, text: str, work: Work) -> Option:
    return Option(text, sum(plan.rates.seconds(work)))
