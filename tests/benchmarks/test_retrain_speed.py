"""What a retraining costs in CPU time and memory: `make bench`; of 10,000 series by `-m trials`."""

import json
import subprocess
import sys

import pytest

MAX_CPU_S = 15 * 60.0


@pytest.mark.parametrize(
    ("n", "most_cpu_s", "most_mb"),
    [
        (100, 300.0, 2_000),  # pictures, trees and the registry cost the same for few series
        pytest.param(10_000, MAX_CPU_S, 8_000, marks=pytest.mark.trials),
    ],
)
def test_retraining(benchmark, tmp_path, n, most_cpu_s, most_mb):
    """Two weeks of five minutes from the table to a champion, within the time of one core of the two.

    Then all series are forecast, which is no part of the retraining; its time is told beside it.
    """
    told = {}

    def work():
        argv = [sys.executable, "-m", "tests.benchmarks.retraining", str(n), str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told.update(json.loads(done.stdout.splitlines()[-1]))

    benchmark.pedantic(work, rounds=1)
    cpu_s = {stage: spent for stage, spent in told["cpu_s"].items() if stage != "made up"}
    predict_s = cpu_s.pop("panel") + cpu_s.pop("forecast")
    train_s, peak_mb = sum(cpu_s.values()), max(told["peak_mb"].values())
    benchmark.extra_info.update(train_s=round(train_s, 1), predict_s=round(predict_s, 1), peak_mb=peak_mb)
    print(
        f"\n{n} series: {train_s:.0f} s of CPU to train {cpu_s}, {predict_s:.0f} s to forecast, {peak_mb} MB"
    )
    assert (told["series"], told["promoted"], told["model"], told["told"]) == (n, True, "load", 1.0)
    assert told["figures"]["challenger.pinball"] < told["figures"]["seasonal_naive.pinball"]
    assert train_s <= most_cpu_s
    assert peak_mb <= most_mb
