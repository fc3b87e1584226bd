"""Decides when to look, looks, and turns each optimizer step into one record.

Every step costs a norm per parameter (shared with the script's own ``clip_grad_norm_`` where it clips) and one host
read. Sampled steps also measure parameters and modules. All observation happens without gradient tracking, without
random numbers and without writing to any tensor of the script.
"""

from steadygrad.monitor.core import Monitor
from steadygrad.monitor.state import Sink

__all__ = ["Monitor", "Sink"]
