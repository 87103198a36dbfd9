"""Watching the workers of a local cluster from outside: memory, traffic, spills and restarts."""

import threading
from pathlib import Path
from typing import Any, NamedTuple

import psutil

_INTERVAL = 0.05


class Traffic(NamedTuple):
    """Bytes that the workers have read from and written to files so far."""

    read: int
    written: int


class NoWatch:
    """Where the workers are not on this machine, or do not matter."""

    def begin(self) -> Traffic:
        return Traffic(0, 0)

    def end(self, _before: Traffic) -> tuple[int, int, int]:
        return 0, 0, 0


class WorkerWatch:
    """Peaks of resident memory per stage, and what befell the workers over the whole run.

    On Linux the kernel keeps the peak of each process, and is asked to start afresh at each stage;
    elsewhere (or where that is forbidden) memory is sampled every 50 ms.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._pids = _worker_pids(client)
        self._processes = [psutil.Process(pid) for pid in self._pids.values()]
        self._highest = 0
        self._stop = threading.Event()
        self._sampler = threading.Thread()

    def begin(self) -> Traffic:
        """Start a stage."""
        for process in self._processes:
            _forget_peak(process.pid)
        self._highest = 0
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, args=(self._stop,), daemon=True)
        self._sampler.start()
        return self._traffic()

    def end(self, before: Traffic) -> tuple[int, int, int]:
        """End a stage; return peak memory of any worker, and bytes read and written by all."""
        self._stop.set()
        self._sampler.join()
        exact = [_kernel_peak(process.pid) for process in self._processes]
        now = self._traffic()
        return (
            max([self._highest, *exact]),
            now.read - before.read,
            now.written - before.written,
        )

    def incidents(self) -> tuple[int, int, int]:
        """Bytes spilled, times paused, and workers lost, since the watch began."""
        spilled = sum(self._client.run(_spilled_bytes).values())
        changes = [
            event
            for topic in self._client.get_events().values()
            for _, event in topic
            if isinstance(event, dict)
        ]
        paused = sum(event.get("status") == "paused" for event in changes)
        alive = set(_worker_pids(self._client).values())
        return spilled, paused, len(set(self._pids.values()) - alive)

    def _sample(self, stop: threading.Event) -> None:
        while not stop.wait(_INTERVAL):
            self._highest = max([self._highest, *map(_resident, self._processes)])

    def _traffic(self) -> Traffic:
        counters = [process.io_counters() for process in self._processes if process.is_running()]
        return Traffic(
            sum(counter.read_chars for counter in counters),
            sum(counter.write_chars for counter in counters),
        )


def _worker_pids(client: Any) -> dict[str, int]:
    import os

    return dict(client.run(os.getpid))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _forget_peak(pid: int) -> None:
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        return  # the peak of the whole run is then reported for each stage: never too low


def _kernel_peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    peak = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), "0")
    return 1024 * int(peak)


def _spilled_bytes(dask_worker: Any) -> int:
    metrics = getattr(dask_worker.data, "cumulative_metrics", {})
    return int(metrics.get(("disk-write", "bytes"), 0) or _on_disk(dask_worker.data))


def _on_disk(data: Any) -> int:
    total = getattr(data, "spilled_total", None)
    return 0 if total is None else int(total.disk)
