"""Timing, and what a process reports about itself. Without PyTorch, whose memory other peers do not need."""

import json
import resource
import statistics
import time

WARM_UPS = 2


def milliseconds(work, repeats):
    """Wall time of each repeat, after the warm-ups."""
    times = []
    for _ in range(WARM_UPS + repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return times[WARM_UPS:]


def percentile(times, share):
    """The time that `share` percent of the times do not exceed, as the Rust benchmarks compute it."""
    return sorted(times)[min(len(times) * share // 100, len(times) - 1)]


def spread(times):
    """The median, the least and the greatest of some milliseconds."""
    values = {"median": statistics.median(times), "min": min(times), "max": max(times)}
    return {name: round(value, 2) for name, value in values.items()}


def peak_memory_mb():
    """The peak memory of this process in MB, from the line that the Rust benchmarks read."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            [line] = [line for line in status if line.startswith("VmHWM:")]
        return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        # Linux counts ru_maxrss in KiB.
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def report(images, times, **what):
    """Prints one line of JSON about repeats of the same work on some images, and returns its object."""
    result = {
        **what,
        "images_per_second": round(1e3 * images / statistics.median(times), 2),
        "milliseconds": spread(times),
        "peak_memory_mb": peak_memory_mb(),
    }
    print(json.dumps(result))
    return result
