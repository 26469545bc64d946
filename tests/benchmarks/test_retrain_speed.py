"""CPU time and memory of a retraining: `make bench`; of 10,000 series with `-m trials`."""

import json
import subprocess
import sys

import pytest

MAX_CPU_S = 15 * 60.0


@pytest.mark.parametrize(
    ("n", "max_cpu_s", "max_mb"),
    [
        (100, 300.0, 2_000),  # plots, trees and the registry have a fixed cost
        pytest.param(10_000, MAX_CPU_S, 8_000, marks=pytest.mark.trials),
    ],
)
def test_retraining(benchmark, tmp_path, n, max_cpu_s, max_mb):
    """Training on two weeks of five-minute rows takes at most 15 minutes of one core.

    The forecast of all series afterwards is measured separately.
    """
    report = {}

    def retrain():
        argv = [sys.executable, "-m", "tests.benchmarks.retraining", str(n), str(tmp_path)]
        process = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
        report.update(json.loads(process.stdout.splitlines()[-1]))

    benchmark.pedantic(retrain, rounds=1)
    cpu_s = {stage: seconds for stage, seconds in report["cpu_s"].items() if stage != "generate"}
    predict_s = cpu_s.pop("panel") + cpu_s.pop("forecast")
    train_s, peak_mb = sum(cpu_s.values()), max(report["peak_mb"].values())
    benchmark.extra_info.update(train_s=round(train_s, 1), predict_s=round(predict_s, 1), peak_mb=peak_mb)
    print(
        f"\n{n} series: {train_s:.0f} s of CPU to train {cpu_s}, {predict_s:.0f} s to forecast, {peak_mb} MB"
    )
    assert (report["series"], report["promoted"], report["model"], report["known_ratio"]) == (
        n,
        True,
        "load",
        1.0,
    )
    assert report["metrics"]["challenger.pinball"] < report["metrics"]["seasonal_naive.pinball"]
    assert train_s <= max_cpu_s
    assert peak_mb <= max_mb
