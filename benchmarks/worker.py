"""One process that holds one workload with one tool attached, and times blocks of iterations when told to.

It reads ``run N`` and ``close`` from stdin and answers on stdout, one JSON object a line. Whatever the tool prints goes
to stderr. Started by :mod:`benchmarks.timing`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO

import torch

from benchmarks.memory import peak_mib
from benchmarks.rivals import CONTESTANTS
from benchmarks.workloads import WORKLOADS, Workload


class Clock:
    """Times blocks, waiting for the device at both ends, with the garbage collector off inside and run in between.

    Args:
        device: where the training runs.
        cpu: take the time this process has spent on the CPU, all threads together, instead of that of the clock on the
            wall: of use beside other programs.
    """

    def __init__(self, device: str, *, cpu: bool) -> None:
        self._cuda = device == "cuda"
        self._now = time.process_time_ns if cpu and not self._cuda else time.perf_counter_ns

    def _wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()

    def block(self, iteration: Any, count: int) -> int:
        """Nanoseconds that ``count`` iterations take."""
        gc.collect()
        gc.disable()
        self._wait()
        start = self._now()
        for _ in range(count):
            iteration()
        self._wait()
        spent = self._now() - start
        gc.enable()
        return spent


def serve(args: argparse.Namespace, answers: TextIO) -> None:
    """Build, attach, and answer until told to close."""

    def answer(**data: Any) -> None:
        answers.write(json.dumps(data) + "\n")
        answers.flush()

    entry, built = WORKLOADS[args.workload], []

    def build() -> Workload:
        torch.manual_seed(0)
        built.append(entry.build(torch.device(entry.device)))
        return built[-1]

    clock = Clock(entry.device, cpu=args.clock == "cpu")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with CONTESTANTS[args.contestant].attach(build, Path(folder)) as iteration:
            answer(ready=True, threads=torch.get_num_threads(), peak_mib=peak_mib())
            for line in sys.stdin:
                if line.strip() == "close":
                    break
                answer(ns=clock.block(iteration, int(line.split()[1])))
            with torch.no_grad():
                loss = built[0].loss_of(built[0].model, *built[0].batches[0]).item()
            cuda = torch.cuda.max_memory_allocated() / 2**20 if entry.device == "cuda" else 0.0
            closing = time.perf_counter()
        answer(
            loss=loss,
            peak_mib=peak_mib(),
            cuda_mib=cuda,
            close_s=time.perf_counter() - closing,
            parameters=built[0].parameters,
            tensors=built[0].tensors,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.worker")
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--contestant", choices=CONTESTANTS, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    args = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(args.threads)
    serve(args, answers)


if __name__ == "__main__":
    main()
