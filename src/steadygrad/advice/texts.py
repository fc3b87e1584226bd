"""What each remedy says: why it should help this cause, what it risks, and the lines a user would write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from steadygrad.advice.numbers import first_layer, good_rate, good_threshold, optimizer_call, other_settings
from steadygrad.records import Cause
from steadygrad.view import View


@dataclass(frozen=True)
class Text:
    """One remedy in words."""

    why: str
    risk: str
    patch: str


def _clip_norm(view: View, cause: Cause) -> Text:
    found = good_threshold(view)
    threshold, share = found if found is not None else (1.0, float("nan"))
    clipped = f"; it would have clipped {share:.0%} of this run's steps" if found is not None else ""
    why = (
        f"Limits how far one bad gradient can throw the weights, and keeps its direction. {threshold:g} is "
        f"the median of this run's calm gradient norms{clipped}. Without such figures, 1.0 is the usual start (1.0 to 2.0 for RNNs)."
    )
    risk = "Too large does nothing, too small stops learning. It cures neither a bad initialisation nor vanishing gradients."
    patch = (
        f"loss.backward()\ntorch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={threshold:g})\noptimizer.step()"
    )
    return Text(why, risk, patch)


def _clip_value(view: View, cause: Cause) -> Text:
    return Text(
        "Caps every gradient entry by itself; useful when single entries are wild.",
        "Changes the gradient's direction; prefer clipping by norm.",
        "torch.nn.utils.clip_grad_value_(model.parameters(), clip_value=1.0)",
    )


def _clip_adaptive(view: View, cause: Cause) -> Text:
    return Text(
        "A threshold that follows the recent gradient norms, loose early and strict late.",
        "The first steps, before there is a history, are not protected.",
        "norms.append(float(norm)); limit = sorted(norms[-100:])[len(norms[-100:]) * 9 // 10]\n"
        "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=limit)",
    )


def _rate(view: View, cause: Cause, *, lower: bool) -> Text:
    found = good_rate(view)
    name = optimizer_call(view)
    old, new = found if found is not None else (float("nan"), float("nan"))
    if found is not None and not (new < 0.7 * old if lower else new > 1.5 * old):
        new = old / 10 if lower else old * 10
    if view.optimizer_type() == "manual update" or found is None:
        line = "lr = lr / 10" if lower else "lr = lr * 10"
    else:
        line = f"optimizer = torch.optim.{name}(model.parameters(), lr={new:g}{other_settings(view)})  # was {old:g}"
    if lower:
        why = "Smaller steps stay where the loss is still well described by its gradient; at this rate a typical step would change the weights by about 0.2%."
        return Text(why, "Too low a rate wastes the run.", line)
    why = "The signals are healthy but the weights hardly move; at this rate a typical step would change them by about 0.2%."
    return Text(why, "Raise in steps of 3 to 10 and watch the loss: above the stable rate it diverges.", line)


def _lower_lr(view: View, cause: Cause) -> Text:
    return _rate(view, cause, lower=True)


def _raise_lr(view: View, cause: Cause) -> Text:
    return _rate(view, cause, lower=False)


def _warmup(view: View, cause: Cause) -> Text:
    steps = max(10, min(2000, view.history.steps // 10))
    return Text(
        "Adaptive optimizers take their largest steps first, when their averages hold few gradients. A ramp lets them settle.",
        "Too long a ramp wastes steps.",
        f"scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / {steps}))\n"
        "...\noptimizer.step()\nscheduler.step()",
    )


def _decay_schedule(view: View, cause: Cause) -> Text:
    return Text(
        "A falling rate lets a noisy loss settle.",
        "It does not help a rate that is too high from the start.",
        f"scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max={max(1, view.history.steps)})",
    )


def _reinit(rule: str, words: str) -> Callable[[View, Cause], Text]:
    def text(view: View, cause: Cause) -> Text:
        return Text(
            f"{words} Applied before the optimizer is built, to every weight matrix.",
            "Throws away pretrained weights: only for layers that start from scratch.",
            "for module in model.modules():\n"
            "    if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)):\n"
            f"        {rule}\n"
            "        if module.bias is not None:\n"
            "            torch.nn.init.zeros_(module.bias)",
        )

    return text


def _swap_activation(view: View, cause: Cause) -> Text:
    saturating = cause.code == "saturating-activation"
    old, new = (
        ("torch.sigmoid / nn.Sigmoid / nn.Tanh", "nn.ReLU()") if saturating else ("nn.ReLU()", "nn.LeakyReLU(0.01)")
    )
    why = (
        "Where it is on, ReLU passes the gradient on undiminished; with Kaiming's init the scale keeps over depth."
        if saturating
        else "A small slope for negative inputs gives a dead unit a gradient, so that it can come back."
    )
    where = f"  # e.g. at {first_layer(cause.location)}" if cause.location else ""
    return Text(
        why, "Change the initialisation with it: each activation has its own gain.", f"# {old}  ->  {new}{where}"
    )


def _add_normalization(view: View, cause: Cause) -> Text:
    return Text(
        "Resets the scale at every layer, so that it cannot compound over depth.",
        "BatchNorm needs batches of at least 8 or so; LayerNorm does not.",
        "self.norm = torch.nn.LayerNorm(width)\n...\nh = activation(self.norm(self.linear(h)))",
    )


def _add_residual(view: View, cause: Cause) -> Text:
    return Text(
        "A shortcut gives the gradient a way back that no layer can shrink.",
        "Input and output of the block must have the same shape; start the branch small.",
        "h = h + activation(self.linear(h))",
    )


def _standardize(view: View, cause: Cause) -> Text:
    batch = view.batch
    note = f"  # here: mean {batch['input_mean']:.3g}, std {batch['input_std']:.3g}" if "input_mean" in batch else ""
    return Text(
        "Layers and learning rates are made for inputs of mean 0 and size 1. Use the training set's statistics everywhere.",
        "Use the same mean and std at evaluation.",
        f"mean, std = x_train.mean(0), x_train.std(0) + 1e-8{note}\nx_train = (x_train - mean) / std",
    )


def _skip_bad_step(view: View, cause: Cause) -> Text:
    return Text(
        "One batch must not be able to ruin the weights. Find the batch as well: its data is wrong.",
        "Skipping hides a persistent fault; count the skips.",
        "norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\n"
        "if torch.isfinite(norm):\n    optimizer.step()\noptimizer.zero_grad()",
    )


def _zero_grad(view: View, cause: Cause) -> Text:
    return Text(
        "backward() adds to the gradients that are there; without clearing, every step repeats all earlier ones.",
        "With gradient accumulation, clear once per optimizer step.",
        "optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
    )


def _full_precision(view: View, cause: Cause) -> Text:
    return Text(
        "Keep parameters and sensitive operations in float32; let autocast choose half precision where it is safe.",
        "Slower and larger than pure half precision.",
        "model = model.float()\nwith torch.autocast(device_type, dtype=torch.bfloat16):\n    output = model(x)\n"
        "loss = criterion(output.float(), y)",
    )


def _loss_on_logits(view: View, cause: Cause) -> Text:
    summed = any("summed" in e for e in cause.evidence)
    broadcast = any("broadcasts" in e for e in cause.evidence)
    if summed:
        return Text(
            "The mean keeps gradient and rate independent of the batch size.",
            "Retune the rate.",
            'criterion = torch.nn.MSELoss(reduction="mean")',
        )
    if broadcast:
        return Text(
            "Prediction and target must have the same shape.",
            "None.",
            "loss = criterion(prediction, target.view_as(prediction))",
        )
    return Text(
        "The loss applies (log-)softmax or sigmoid itself: give it the raw outputs. Twice applied, the gradient all but disappears.",
        "Apply softmax or sigmoid by hand at prediction time only.",
        "loss = torch.nn.functional.cross_entropy(logits, target)  # no softmax before it\n"
        "# two classes: binary_cross_entropy_with_logits(logits, target)  # no sigmoid before it",
    )


GUARDS = (
    ("log", "torch.log(p.clamp_min(1e-8))"),
    ("square root", "torch.sqrt(x + 1e-8)  # the slope at 0 is infinite"),
    (
        "slope of a",
        "torch.sqrt(x.square().sum(-1) + 1e-8)  # in place of a norm or distance: its slope at 0 is infinite",
    ),
    ("1/sqrt", "torch.rsqrt(x + 1e-8)"),
    ("division", "a / (b + 1e-8)  # b >= 0; otherwise torch.where(b.abs() > 1e-8, b, 1e-8)"),
    ("exp", "x.clamp(max=30).exp()  # or work with logarithms: torch.logsumexp"),
    ("softmax", "scores.masked_fill(mask, -1e9)  # finite, or keep one position of every row unmasked"),
    ("power", "(x + 1e-8) ** p"),
)


def _guard_operation(view: View, cause: Cause) -> Text:
    reason = next((e for e in cause.evidence if "gave the first" in e), "the operation leaves its domain")
    lines = [line for key, line in GUARDS if key in reason.split(" in `")[0]] or [line for _, line in GUARDS[:5]]
    return Text(
        f"{reason[0].upper()}{reason[1:]}. Keep its input inside the domain, by a margin that float32 can hold.",
        "A clamp has no gradient outside its range; an added epsilon keeps one.",
        "\n".join(lines[:1] if len(lines) < 5 else lines),
    )


def _adaptive(view: View, cause: Cause) -> Text:
    return Text(
        "Adam scales each entry's step by its own gradient, which evens out bad scaling.",
        "Needs its own rate; 1e-3 is the usual start.",
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)",
    )


def _decay(view: View, cause: Cause) -> Text:
    largest = max((p.weight_decay for p in view.parameters), default=0.01)
    return Text(
        "The decay pulls the weights to zero harder than the gradient pulls them anywhere else.",
        "Less regularisation: watch the validation loss.",
        f"optimizer = torch.optim.{optimizer_call(view)}(model.parameters(), lr=lr, weight_decay={largest / 100:g})  # was {largest:g}",
    )


def _replace_batchnorm(view: View, cause: Cause) -> Text:
    return Text(
        "GroupNorm and LayerNorm do not look at the batch, so its size does not matter.",
        "GroupNorm's groups must divide the channels.",
        "torch.nn.GroupNorm(num_groups=8, num_channels=channels)  # in place of BatchNorm; or a batch of 16 and more",
    )


def _loosen_clip(view: View, cause: Cause) -> Text:
    found = good_threshold(view)
    value = found[0] if found is not None else 1.0
    return Text(
        f"A threshold of {value:g} would leave the smaller half of this run's gradients as they are.",
        "With plain SGD the steps grow at once: lower the rate if the loss gets rough.",
        f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={value:g})",
    )


def _attach(view: View, cause: Cause) -> Text:
    outside = any("no optimizer" in e for e in cause.evidence)
    if outside:
        patch = "# keep sub-modules in nn.ModuleList (not a list), then\noptimizer = torch.optim.Adam(model.parameters(), lr=lr)  # after the last layer was added"
        return Text(f"{cause.location or 'They'} cannot learn: no optimizer updates them.", "None.", patch)
    return Text(
        "Between these parameters and the loss the graph is cut.",
        "If they are meant to be frozen, say so: requires_grad_(False).",
        "# look for .detach(), .data, .item(), numpy() or torch.no_grad() on the way from them to the loss",
    )


def _l2(view: View, cause: Cause) -> Text:
    return Text(
        "Keeps weights from growing without bound.",
        "Too much stops learning.",
        "optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)",
    )


def _l1(view: View, cause: Cause) -> Text:
    return Text(
        "Pushes small weights to zero.",
        "Not smooth at zero.",
        "loss = loss + 1e-5 * sum(p.abs().sum() for p in model.parameters())",
    )


TEXTS: dict[str, Callable[[View, Cause], Text]] = {
    "clip-norm": _clip_norm,
    "clip-value": _clip_value,
    "clip-adaptive": _clip_adaptive,
    "lower-lr": _lower_lr,
    "raise-lr": _raise_lr,
    "warmup": _warmup,
    "decay-schedule": _decay_schedule,
    "reinit-xavier": _reinit("torch.nn.init.xavier_uniform_(module.weight)", "Xavier keeps the scale through linear, tanh and sigmoid layers."),
    "reinit-kaiming": _reinit('torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")', "Kaiming keeps the scale through ReLU layers."),
    "reinit-orthogonal": _reinit("torch.nn.init.orthogonal_(module.weight)", "Orthogonal matrices change no length; they also suit recurrent weights."),
    "reinit-lsuv": _reinit("torch.nn.init.orthogonal_(module.weight)  # then divide by the std of its output on a batch", "LSUV sets every layer's output to variance 1 on real data."),
    "swap-activation": _swap_activation,
    "add-normalization": _add_normalization,
    "add-residual": _add_residual,
    "standardize-input": _standardize,
    "skip-bad-step": _skip_bad_step,
    "zero-grad": _zero_grad,
    "full-precision": _full_precision,
    "loss-on-logits": _loss_on_logits,
    "guard-operation": _guard_operation,
    "adaptive-optimizer": _adaptive,
    "l2-regularization": _l2,
    "l1-regularization": _l1,
    "reduce-weight-decay": _decay,
    "replace-batchnorm": _replace_batchnorm,
    "loosen-clip": _loosen_clip,
    "attach-parameters": _attach,
}  # fmt: skip
