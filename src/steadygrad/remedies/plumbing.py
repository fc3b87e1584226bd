"""What connects the parts of a training loop."""

from __future__ import annotations

from steadygrad.records import Cause
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.numbers import optimizer_call
from steadygrad.view import View

CLOSURE = """def closure():
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    return loss

optimizer.step(closure)"""


def _zero_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "backward() adds to the gradients that are there; without clearing, every step repeats all earlier ones.",
        CLOSURE if view.optimizer_type() == "LBFGS" else "optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
    )


def _outside(cause: Cause) -> bool:
    return any("no optimizer" in e for e in cause.evidence)


def _attach_words(view: View, cause: Cause) -> tuple[str, str]:
    if _outside(cause):
        return f"{cause.location or 'They'} cannot learn: no optimizer updates them.", (
            "# give the optimizer all of the model, with sub-modules in nn.ModuleList (not in a list)\n"
            f"optimizer = torch.optim.{optimizer_call(view)}(model.parameters(), lr=lr)  # after its last layer is made"
        )
    return (
        "Between these parameters and the loss the graph is cut.",
        "# look for .detach(), .data, .item(), numpy() or torch.no_grad() on the way from them to the loss",
    )


def _attach_values(view: View, cause: Cause) -> list[str]:
    return ["", "reconnect"] if _outside(cause) else ["reconnect", ""]


REMEDIES = (
    Remedy(
        "zero-grad",
        "gradients that pile up because nothing clears them",
        "With gradient accumulation, clear once per optimizer step.",
        "zero-grad",
        _zero_words,
    ),
    Remedy(
        "attach-parameters",
        "parameters that no optimizer holds, or that a detach() cuts off from the loss",
        "If they are meant to be frozen, say so: requires_grad_(False).",
        "attach-parameters:reconnect",
        _attach_words,
        _attach_values,
    ),
)
