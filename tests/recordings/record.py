"""Records scenarios again: `python -m tests.recordings.record NAME...`, a minute each; no name lists them."""

import sys

from tests.recordings.library import save
from tests.recordings.rig import record
from tests.recordings.scenarios import DEVELOPMENT, HELD_OUT

PARTS = {"development": DEVELOPMENT, "held out": HELD_OUT}


def main(names):
    """Record the named scenarios, or list all."""
    for part, scenarios in PARTS.items():
        for name, scenario in scenarios.items():
            if not names:
                print(f"{name:28} {part}: {', '.join(scenario.shows) or 'healthy'}")
            elif name in names:
                recording = record(name, scenario, part)
                save(recording)
                print(f"{name}: {recording.values.shape[1]} series, {len(recording.values)} ticks")


if __name__ == "__main__":
    main(sys.argv[1:])
