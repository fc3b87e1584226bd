"""Interventions: remedies applied to a running script by replacing what it calls, and taken back without a trace.

Open the observing session first and install after it, so that what is observed is the treated script; undo before
closing it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steadygrad.errors import InputError
from steadygrad.interventions import (
    activation,
    clipping,
    initial,
    inputs,
    losses,
    normalization,
    numerics,
    plumbing,
    rate,
    regularization,
    residual,
)
from steadygrad.interventions.report import Notes, Report
from steadygrad.interventions.stage import Stage
from steadygrad.records import RemedySpec

Apply = Callable[[Stage, RemedySpec, Report], None]

NO_STEP = "no optimizer stepped"
NO_MODEL = "no module was trained"
#: code -> how to apply it, and why it did not where it never got the occasion.
APPLY: dict[str, tuple[Apply, str]] = {
    "clip-norm": (clipping.clip_norm, NO_STEP),
    "clip-value": (clipping.clip_value, NO_STEP),
    "clip-adaptive": (clipping.clip_adaptive, NO_STEP),
    "lower-lr": (rate.lower_lr, NO_STEP),
    "raise-lr": (rate.raise_lr, NO_STEP),
    "warmup": (rate.warmup, NO_STEP),
    "decay-schedule": (rate.decay_schedule, NO_STEP),
    "constant-lr": (rate.constant_lr, "the learning rate never changed"),
    "line-search": (rate.line_search, "no LBFGS without a line search stepped"),
    "reinit-xavier": (initial.reinit_xavier, NO_MODEL),
    "reinit-kaiming": (initial.reinit_kaiming, NO_MODEL),
    "reinit-orthogonal": (initial.reinit_orthogonal, NO_MODEL),
    "reinit-lsuv": (initial.reinit_lsuv, NO_MODEL),
    "swap-activation": (activation.swap_activation, "no such activation was called inside a model"),
    "add-normalization": (normalization.add_normalization, "no hidden linear or convolutional module was called"),
    "add-residual": (residual.add_residual, "no layer with an activation has an input of its output's shape"),
    "standardize-input": (inputs.standardize_input, "the inputs are of a usual size, or no model takes any"),
    "skip-bad-step": (clipping.skip_bad_step, "no step was bad"),
    "zero-grad": (plumbing.zero_grad, NO_STEP),
    "full-precision": (numerics.full_precision, "the script uses no half precision"),
    "loss-on-logits": (losses.loss_on_logits, "no loss was fed with what it applies itself"),
    "mean-reduction": (losses.mean_reduction, "no loss of torch was asked for the sum"),
    "match-shapes": (losses.match_shapes, "prediction and target have the same shape"),
    "guard-operation": (numerics.guard_operation, "no such operation was called there"),
    "adaptive-optimizer": (rate.adaptive_optimizer, NO_STEP),
    "l2-regularization": (regularization.l2_regularization, NO_STEP),
    "l1-regularization": (regularization.l1_regularization, NO_STEP),
    "reduce-weight-decay": (regularization.reduce_weight_decay, "no optimizer has a weight decay"),
    "replace-batchnorm": (normalization.replace_batchnorm, "no BatchNorm was built"),
    "loosen-clip": (clipping.loosen_clip, "the script clips no gradients"),
    "attach-parameters": (plumbing.attach_parameters, "every parameter with a gradient is in an optimizer"),
}

#: Those that can be applied to one module or line; the others act on whole updates, batches or losses.
PLACED = frozenset({
    "swap-activation", "add-normalization", "guard-operation", "reinit-xavier", "reinit-kaiming", "reinit-orthogonal",
    "reinit-lsuv",
})  # fmt: skip


def install(specs: Sequence[RemedySpec], *, notes: Notes | None = None) -> Callable[[], None]:
    """Put remedies in place for this process and thread. Returns what takes them back.

    Args:
        specs: the remedies, applied together; ``no-op`` does nothing.
        notes: receives one ``(spec, text)`` for each remedy, as "applied: ..." when it first takes effect, or as
            "refused: ..." with the reason, at the latest when it is taken back.

    Raises:
        InputError: a value that the remedy does not take, or a place where it takes none.
    """
    stage = Stage()
    reports: list[Report] = []
    try:
        for spec in specs:
            if spec.place and spec.code not in PLACED:
                raise InputError(
                    f"{spec.code} acts on the whole script and takes no place; received {spec.place!r}. "
                    f"Leave out '@{spec.place}'; a place is taken by {', '.join(sorted(PLACED))}."
                )
            if spec.code in APPLY:
                apply, waiting = APPLY[spec.code]
                reports.append(Report(spec, waiting, notes if notes is not None else []))
                apply(stage, spec, reports[-1])
    except BaseException:
        stage.undo()
        raise

    def undo() -> None:
        stage.undo()
        for report in reports:
            report.close()

    return undo


__all__ = ["APPLY", "install"]
