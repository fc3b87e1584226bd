"""BatchNorm whose statistics cannot be trusted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steadygrad.detectors.base import Detector
from steadygrad.online import median
from steadygrad.records import Symptom
from steadygrad.view import View
from steadygrad.wording import listed

TINY_ROWS = 2
TINY_SAMPLES = 4
#: Two images with many positions are enough where their variances lie this close (in logarithms) to the running ones.
MANY_SAMPLES = 64
SAME_SCALE = 0.25
#: Running statistics this many running standard deviations away from the batch's, late in the run.
SHIFT = 2.0


def _missing(view: View) -> str | None:
    if view.history.facts("compiled"):
        return "the model is compiled: modules are not observed, so that its graphs stay whole"
    return None if np.isfinite(view.site("channel_samples")).any() else "no BatchNorm ran in training mode"


def tiny_layers(view: View) -> list[tuple[int, float, float]]:
    """(site, samples per channel, rows per batch) of BatchNorm layers fed by too few samples, worst first, typical values."""
    samples, rows, scale = view.site("channel_samples"), view.site("batch_rows"), view.site("stat_scale")
    found = []
    for site in view.sites:
        count, batch = samples[:, site.index], rows[:, site.index]
        if np.isfinite(count).any():
            typical, size = median(count), median(batch)
            steady = typical >= MANY_SAMPLES and median(scale[:, site.index]) <= SAME_SCALE
            if typical <= TINY_SAMPLES or (size <= TINY_ROWS and not steady):
                found.append((site.index, typical, size))
    return sorted(found, key=lambda row: row[1])


def _unreliable(view: View) -> Iterator[Symptom]:
    """Silent on frozen BatchNorm (evaluation mode) and on an occasional short last batch (typical sizes count)."""
    tiny = tiny_layers(view)
    if tiny:
        _index, count, rows = tiny[0]
        names = [view.sites[i].name for i, _, _ in tiny]
        message = f"{listed(names)} normalise over batches of {rows:.0f} ({count:.0f} values per channel)"
        evidence = {"samples_per_channel": count, "batch_rows": rows}
        yield Symptom("unreliable-batchnorm", "critical", names[0], 1, view.history.steps, evidence, message, len(tiny))
        return
    shift = view.site("stat_shift")
    late = shift[len(shift) // 2 :]
    drifting = [s for s in view.sites if np.isfinite(late[:, s.index]).sum() >= 3 and median(late[:, s.index]) > SHIFT]
    if drifting and view.history.steps >= 100:
        far = median(late[:, drifting[0].index])
        message = f"running statistics of {listed([s.name for s in drifting])} are {far:.1f} standard deviations from the batch's"
        evidence = {"shift": far}
        yield Symptom("unreliable-batchnorm", "warning", drifting[0].name, 1, view.history.steps, evidence, message)


UNRELIABLE = Detector("unreliable-batchnorm", _unreliable, _missing)
