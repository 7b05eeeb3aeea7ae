from __future__ import annotations

import pytest

from service.families import FAMILIES, SECONDS, Snapshot, Value
from service.metrics import Histograms, Metrics


def value(snapshot: Snapshot, name: str, *labels: str) -> Value:
    return dict(snapshot[name])[labels]


def numbers(snapshot: Snapshot, name: str, *labels: str) -> list[float]:
    found = value(snapshot, name, *labels)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (5e-6, 0), (5.1e-6, 1), (1e-3, 7), (10.0, 19), (11.0, 20)])
def test_value_falls_into_the_bucket_whose_upper_bound_is_not_below_it(seconds: float, bucket: int) -> None:
    histograms = Histograms(SECONDS, 1)
    histograms.add((seconds,))
    *counts, total = histograms.values()[0]
    assert (counts.index(1), sum(counts), total) == (bucket, 1, seconds)


def test_nothing_is_lost_between_digests() -> None:
    histograms = Histograms((1.0, 2.0), 2)
    for number in range(10_000):
        histograms.add((number % 3, 5.0))
        histograms.digest_if_long()
    first, second = histograms.values()
    assert first == [6667.0, 3333.0, 0.0, 9999.0]
    assert second == [0.0, 0.0, 10_000.0, 50_000.0]


def test_pending_observations_do_not_pile_up_where_digests_are_asked_for() -> None:
    histograms = Histograms((1.0,), 1)
    for _ in range(5000):
        histograms.add((1.0,))
        histograms.digest_if_long()
    assert len(histograms._pending) < 512


def test_weight_counts_a_value_as_often_as_it_says() -> None:
    histograms = Histograms((1.0, 2.0), 2, is_weighted=True)
    histograms.add((0.5, 1.5, 4))
    assert histograms.values() == [[4.0, 0.0, 0.0, 2.0], [0.0, 4.0, 0.0, 6.0]]


def test_requests_are_counted_by_model_version_protocol_and_status() -> None:
    metrics = Metrics()
    requests = metrics.requests("digits", 3, "native")
    requests.succeeded((0.002, 0.0001, 0.0002))
    requests.succeeded((0.002, 0.0001, 0.0002))
    requests.failed(400)
    metrics.requests("", None, "native").failed(404)
    assert dict(metrics.snapshot()["layerserve_requests_total"]) == {
        ("digits", "3", "native", "200"): 2.0,
        ("digits", "3", "native", "400"): 1.0,
        ("", "", "native", "404"): 1.0,
    }


def test_latency_is_split_into_decode_queue_run_and_encode() -> None:
    metrics = Metrics()
    metrics.requests("digits", 1, "native").succeeded((0.5, 0.125, 0.25))
    metrics.on_batch("digits", 1, 7, 2.0, 4.0, 3)
    snapshot = metrics.snapshot()
    assert numbers(snapshot, "layerserve_request_seconds", "digits", "1", "native")[-1] == 0.5
    assert numbers(snapshot, "layerserve_codec_seconds", "digits", "1", "native", "decode")[-1] == 0.125
    assert numbers(snapshot, "layerserve_codec_seconds", "digits", "1", "native", "encode")[-1] == 0.25
    assert numbers(snapshot, "layerserve_batch_seconds", "digits", "1", "queue")[-1] == 6.0
    assert numbers(snapshot, "layerserve_batch_seconds", "digits", "1", "run")[-1] == 12.0
    *counts, rows = numbers(snapshot, "layerserve_batch_rows", "digits", "1")
    assert (sum(counts), rows) == (1, 7)


def test_same_handle_is_given_for_the_same_labels() -> None:
    metrics = Metrics()
    assert metrics.requests("digits", 1, "native") is metrics.requests("digits", 1, "native")
    assert metrics.requests("digits", 1, "native") is not metrics.requests("digits", 1, "v2")


def test_batches_digest_what_the_requests_left() -> None:
    metrics = Metrics()
    requests = metrics.requests("digits", 1, "native")
    for _ in range(1000):
        requests.succeeded((0.5, 0.125, 0.25))
        metrics.on_batch("digits", 1, 1, 0.0, 0.0, 1)
    assert len(requests._seconds._pending) < 512 * 3


def test_loads_golden_error_and_drift_are_kept_by_version() -> None:
    metrics = Metrics()
    metrics.loaded("digits", 1, golden_error=1e-7)
    metrics.loaded("digits", 2, golden_error=2e-7)
    metrics.took_over("digits", 2, (1, 0.5))
    metrics.refused("digits", 3)
    snapshot = metrics.snapshot()
    assert dict(snapshot["layerserve_loads_total"]) == {
        ("digits", "1", "ok"): 1.0,
        ("digits", "2", "ok"): 1.0,
        ("digits", "3", "refused"): 1.0,
    }
    assert value(snapshot, "layerserve_golden_max_abs_error", "digits", "2") == 2e-7
    assert snapshot["layerserve_drift_max_abs_error"] == [(("digits", "2", "1"), 0.5)]


def test_only_the_last_versions_are_kept_and_those_that_serve() -> None:
    metrics = Metrics()
    metrics.loaded("digits", 1, golden_error=0.0)
    for version in range(2, 102):
        metrics.loaded("digits", version, golden_error=0.0)
        metrics.retired("digits", version)
    versions = [labels[1] for labels, _ in metrics.snapshot()["layerserve_loads_total"]]
    assert versions == ["1", *map(str, range(92, 102))]


def test_process_is_measured() -> None:
    assert isinstance(memory := value(Metrics().snapshot(), "process_resident_memory_bytes"), float)
    assert memory > 1e6


@pytest.mark.parametrize("name", FAMILIES)
def test_name_of_a_metric_ends_in_its_unit(name: str) -> None:
    endings = ("_total", "_seconds", "_rows", "_bytes", "_info", "_fds", "_workers", "_ready", "_max_abs_error")
    assert name.endswith(endings)
    assert name.startswith(("layerserve_", "process_"))
