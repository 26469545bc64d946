"""The recordings as sets: those used to develop the rules, and those held out."""

from tests.recordings.faults import FAULTS, healthy, troubled
from tests.recordings.library import recorded, varied

VARIATIONS = (
    {},
    {"noise": 0.05, "gaps": 0.03},
    {"stretch": 1.4, "without": ("python_gc", "process_max_fds", "redis_cpu")},
    {"noise": 0.08, "stretch": 0.8, "without": ("_p50", "process_cpu")},
    {"gaps": 0.08, "without": ("memory_limit", "redis_memory_max")},
)
"""Variations of each real recording."""
HELD_OUT_VARIATIONS = (
    {},
    {"noise": 0.06, "gaps": 0.02, "stretch": 1.2},
    {"noise": 0.03, "without": ("redis_cpu", "process_virtual")},
    {"stretch": 1.6, "gaps": 0.05},
)


def _real(part, variations):
    return [varied(r, seed, **how) for r in recorded(part) for seed, how in enumerate(variations)]


def development(each=7, well=44):
    """Return real recordings in variations, and simulated ones: `each` per pattern, `well` healthy."""
    simulated = [r for pattern in FAULTS for r in troubled(pattern, range(each))]
    return [*_real("development", VARIATIONS[:3]), *simulated, *healthy(range(well))]


def held_out(each=6, well=26):
    """Return the same with other real runs, seeds and variations."""
    simulated = [r for pattern in FAULTS for r in troubled(pattern, range(1000, 1000 + each), "held out")]
    healthy_ones = healthy(range(2000, 2000 + well), "held out")
    return [*_real("held out", HELD_OUT_VARIATIONS[:3]), *simulated, *healthy_ones]
