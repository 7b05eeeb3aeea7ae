"""How much memory a training on many rows takes: `python -m benchmarks.train --rows 5000000`.

Writes a CSV of numbers, categories, booleans, dates and gaps, runs `python -m export train` on it as a process of its
own, and prints rows a second and the peak of its memory: that of the training or of one of the processes that prove its
formats, whichever is largest. Ends with 1 where the peak is above `--limit-mb`.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

_BATCH_ROWS = 100_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of the file (default 5000000)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the training rows (default 1)")
    parser.add_argument("--limit-mb", type=int, default=2000, help="most memory that is fine (default 2000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="layerserve-bench-") as folder:
        path = Path(folder, "sales.csv")
        write(path, options.rows)
        print(f"{options.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB of CSV", flush=True)
        arguments = [
            "--data",
            str(path),
            "--target",
            "price",
            "--epochs",
            str(options.epochs),
            "--hidden-units",
            "64,64",
        ]
        start = time.perf_counter()
        command = [sys.executable, "-m", "export", "train", *arguments, "--artifacts", str(Path(folder, "artifacts"))]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    print(
        f"{seconds:,.0f} s, {options.rows * options.epochs / seconds:,.0f} rows/s with everything, peak {peak:,.0f} MB"
    )
    return 0 if peak < options.limit_mb else 1


def write(path: Path, rows: int) -> None:
    """Writes the file batch by batch; the same rows on every machine."""
    random = np.random.default_rng(0)
    with arrow_csv.CSVWriter(path, batch(random, 1).schema) as writer:
        for start in range(0, rows, _BATCH_ROWS):
            writer.write_batch(batch(random, min(_BATCH_ROWS, rows - start)))


def batch(random: np.random.Generator, rows: int) -> pa.RecordBatch:
    amount, weight = random.gamma(2, 3, rows), random.normal(70, 10, rows)
    shop, article = random.integers(0, 50, rows), random.integers(0, 100_000, rows)
    is_online = random.random(rows) < 0.3
    day = np.datetime64("2015-01-01") + random.integers(0, 3650, rows)
    price = 5 * amount + weight + shop + 20 * is_online + random.normal(0, 3, rows)
    return pa.RecordBatch.from_pydict(
        {
            "amount": pa.array(amount, mask=random.random(rows) < 0.05),
            "weight": weight,
            "shop": pa.array([f"shop {number}" for number in shop.tolist()], mask=random.random(rows) < 0.02),
            "article": pa.array([f"A-{number}" for number in article.tolist()]),
            "online": is_online,
            "day": day,
            "price": price,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
