"""The report of a run: one HTML file that opens anywhere, without a network and without SteadyGrad."""

from steadygrad.report.write import write_report

__all__ = ["write_report"]
