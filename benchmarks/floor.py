"""What each runtime costs by itself: `python -m benchmarks.floor [VERSION]`.

Loads a version (`digits@1`; by default the served version of the only model) by every runtime that can run it, and
prints the median time of a call in microseconds by batch size, with one thread for the inside of a call. This is the
limit that no server around the runtime can beat. All runtimes are timed in this process, one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from models.artifact import Artifact, ArtifactError
from models.golden import compare, read_golden
from models.manifest import Tensors
from models.store import ArtifactStore
from service.runtimes import RUNTIMES, Runtime, load, why_unavailable
from service.runtimes.trial import rows_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", help="such as digits@1; by default the only model's served version")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="folder of the published versions")
    parser.add_argument("--layers", nargs="*", default=[], help="modules that define your layers")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 128], help="rows in a call")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of each measurement (default 0.5)")
    options = parser.parse_args()
    artifact = opened(ArtifactStore(options.artifacts), options.version)
    artifact.verify_files()
    golden = read_golden(artifact)
    print(f"{artifact.manifest.name}@{artifact.manifest.version}: microseconds a call, by rows in it; one thread")
    print(f"{'runtime':<14}{'load ms':>9}" + "".join(f"{rows:>10}" for rows in options.batch_sizes) + "  largest error")
    for name in RUNTIMES:
        if reason := why_unavailable(name, artifact):
            print(f"{name:<14}{reason}")
            continue
        begin = time.perf_counter()
        runtime = load(name, artifact, tuple(options.layers))
        loading = time.perf_counter() - begin
        error = compare(golden.outputs, runtime.run(golden.inputs)).max_abs_error
        times = [measure(runtime, rows_of(golden.inputs, rows), options.seconds) for rows in options.batch_sizes]
        print(f"{name:<14}{loading * 1e3:>9.0f}" + "".join(f"{each:>10.1f}" for each in times) + f"  {error:.1e}")
        runtime.close()


def opened(store: ArtifactStore, reference: str | None) -> Artifact:
    names = [reference] if reference else store.names()
    if len(names) != 1:
        raise SystemExit(f"Name a version, such as digits@1. Models: {', '.join(names) or 'none'}.")
    try:
        return store.resolve(names[0])
    except ArtifactError as error:
        raise SystemExit(str(error)) from error


def measure(runtime: Runtime, inputs: Tensors, seconds: float) -> float:
    """The median time of a call in microseconds."""
    for _ in range(3):
        runtime.run(inputs)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end or not times:
        runtime.run(inputs)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


if __name__ == "__main__":
    main()
