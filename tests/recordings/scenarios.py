"""Scenarios of the recordings: initial settings and fault of each."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scenario:
    """A service, its dependencies, and its fault.

    base, fault : settings of the service (`tests.recordings.service.Settings`) before and from the fault on;
                  `maxmemory`, `dependency`, `kill_dependency` apply to the other processes
    ramp        : ticks over which the fault develops; 0 = at once
    acts        : tick -> other settings
    always      : faulty from the start
    """

    base: dict
    fault: dict = field(default_factory=dict)
    shows: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    redis: int = 0
    postgresql: bool = False
    dependency: bool = False
    ramp: int = 0
    acts: dict = field(default_factory=dict)
    deploy: bool = False
    always: bool = False


MB = 2**20
THRASH, LEAK, SATURATED, SURGE = "cache_thrash", "memory_leak", "saturation_under_load", "traffic_surge"
BURST, POOL, BACKLOG = "dependency_error_burst", "connection_pool_exhaustion", "queue_backlog"
SHIFT = "level_shift_after_deploy"
JOBS = {"rate": 60, "job_rate": 60, "workers": 4, "job_ms": 25}
CACHE = {"rate": 150, "burn_ms": 0.3, "key_space": 3000}

DEVELOPMENT = {
    "thrash_less_memory": Scenario(CACHE, {"maxmemory": 2 * MB}, (THRASH,), redis=20 * MB),
    "thrash_more_keys": Scenario(CACHE, {"key_space": 80_000}, (THRASH,), redis=5 * MB),
    "thrash_from_the_start": Scenario(
        CACHE | {"key_space": 20_000}, {}, (THRASH,), redis=2 * MB, always=True
    ),
    "leak_fast": Scenario({"rate": 80}, {"leak_bytes": 12_000}, (LEAK,)),
    "leak_under_teeth": Scenario({"rate": 80, "garbage": 30_000}, {"leak_bytes": 9_000}, (LEAK,)),
    "leak_in_waves": Scenario({"rate": 80, "wave": 0.3}, {"leak_bytes": 10_000}, (LEAK,)),
    "saturated_by_rate": Scenario({"rate": 20, "burn_ms": 3.0}, {"rate": 400}, (SATURATED,), (SURGE, POOL)),
    "saturated_by_work": Scenario({"rate": 12, "burn_ms": 2.0}, {"burn_ms": 20.0}, (SATURATED,), (POOL,)),
    "saturated_slowly": Scenario(
        {"rate": 20, "burn_ms": 3.0}, {"rate": 400}, (SATURATED,), (SURGE, POOL), ramp=60
    ),
    "surge": Scenario({"rate": 60, "burn_ms": 0.5}, {"rate": 200}, (SURGE,)),
    "surge_double": Scenario({"rate": 80, "burn_ms": 0.4}, {"rate": 165}, (SURGE,)),
    "surge_on_cache": Scenario(CACHE | {"rate": 80}, {"rate": 240}, (SURGE,), redis=20 * MB, ramp=15),
    "dependency_fails": Scenario({}, {"dependency": {"fail": 0.5}}, (BURST,), dependency=True),
    "dependency_dies": Scenario({}, {"kill_dependency": True}, (BURST,), dependency=True),
    "dependency_stalls": Scenario(
        {"rate": 50, "pool": 80}, {"dependency": {"stall": 0.25}}, (BURST,), (POOL,), dependency=True
    ),
    "pool_slow_dependency": Scenario(
        {"rate": 60, "pool": 8}, {"dependency": {"delay_ms": 200.0}}, (POOL,), (BURST,), dependency=True
    ),
    "pool_forgotten": Scenario({"rate": 60, "pool": 10}, {"forget": 0.01}, (POOL,)),
    "pool_postgresql": Scenario({"rate": 40, "pool": 60}, {"forget": 0.06}, (POOL,), postgresql=True),
    "backlog_slow_workers": Scenario(JOBS, {"job_ms": 90}, (BACKLOG,)),
    "backlog_more_jobs": Scenario(JOBS, {"job_rate": 260}, (BACKLOG,)),
    "backlog_lost_workers": Scenario(JOBS, {"workers": 1}, (BACKLOG,)),
    "deploy_slower": Scenario({"burn_ms": 2.0}, {"burn_ms": 4.5}, (SHIFT,), deploy=True),
    "deploy_more_calls": Scenario(
        {}, {"dependency": {"delay_ms": 9.0}}, (SHIFT,), dependency=True, deploy=True
    ),
    "deploy_errors": Scenario({"errors": 0.01}, {"errors": 0.12}, (SHIFT,), deploy=True),
    "quiet": Scenario({"rate": 100}),
    "quiet_cache": Scenario(CACHE, redis=20 * MB),
    "quiet_full_cache": Scenario(CACHE | {"key_space": 6000}, redis=7 * MB),
    "quiet_postgresql": Scenario({"rate": 40, "pool": 20}, postgresql=True),
    "quiet_waves_and_deploy": Scenario(
        {"wave": 0.4, "wave_s": 12.0, "pool": 60}, dependency=True, deploy=True
    ),
    "quiet_batches": Scenario(
        JOBS | {"garbage": 30_000},
        acts={t: {"batch": 120} for t in (60, 120, 180, 240)},
    ),
}  # fmt: skip
"""Those that the rules were made with."""

HELD_OUT = {
    "held_thrash_larger_values": Scenario(
        CACHE | {"rate": 120}, {"value_bytes": 9000, "key_space": 9000}, (THRASH,), redis=6 * MB
    ),
    "held_thrash_by_half": Scenario(
        {"rate": 100, "burn_ms": 0.2, "key_space": 5000}, {"maxmemory": 3 * MB}, (THRASH,), redis=16 * MB
    ),
    "held_leak": Scenario({"rate": 50, "burn_ms": 0.2}, {"leak_bytes": 14_000}, (LEAK,)),
    "held_leak_and_jobs": Scenario(
        JOBS | {"rate": 50, "garbage": 20_000, "leak_bytes": 0}, {"leak_bytes": 20_000}, (LEAK,), ramp=10
    ),
    "held_saturated": Scenario({"rate": 15, "burn_ms": 2.0}, {"rate": 350}, (SATURATED,), (SURGE, POOL)),
    "held_saturated_slowly": Scenario(
        {"rate": 12, "burn_ms": 3.0}, {"rate": 300}, (SATURATED,), (SURGE, POOL), ramp=40
    ),
    "held_surge": Scenario({"rate": 30, "burn_ms": 0.3}, {"rate": 90}, (SURGE,)),
    "held_surge_slowly": Scenario({"rate": 40, "burn_ms": 0.3}, {"rate": 130}, (SURGE,), ramp=25),
    "held_dependency_fails": Scenario(
        {"rate": 40, "burn_ms": 0.3}, {"dependency": {"fail": 0.2}}, (BURST,), dependency=True
    ),
    "held_dependency_dies": Scenario(
        {"rate": 30, "burn_ms": 0.3}, {"kill_dependency": True}, (BURST,), dependency=True
    ),
    "held_pool_slow": Scenario(
        {"rate": 40, "pool": 15, "burn_ms": 0.2},
        {"dependency": {"delay_ms": 700.0}},
        (POOL,),
        (BURST,),
        dependency=True,
    ),
    "held_pool_postgresql": Scenario(
        {"rate": 25, "pool": 60, "burn_ms": 0.2}, {"forget": 0.12}, (POOL,), postgresql=True
    ),
    "held_backlog": Scenario(JOBS | {"rate": 20, "workers": 3}, {"job_ms": 120}, (BACKLOG,)),
    "held_backlog_bounded": Scenario(
        JOBS | {"rate": 20, "queue_most": 80}, {"job_rate": 280}, (BACKLOG,), ramp=15
    ),
    "held_deploy_slower_calls": Scenario(
        {"rate": 40, "burn_ms": 0.2},
        {"dependency": {"delay_ms": 25.0}},
        (SHIFT,),
        dependency=True,
        deploy=True,
    ),
    "held_deploy_errors": Scenario(
        {"rate": 50, "burn_ms": 0.2, "errors": 0.02}, {"errors": 0.3}, (SHIFT,), deploy=True
    ),
    "held_quiet": Scenario({"rate": 40, "burn_ms": 0.2}),
    "held_quiet_cache": Scenario({"rate": 60, "burn_ms": 0.2, "key_space": 4000}, redis=24 * MB),
    "held_quiet_deploy": Scenario(
        {"rate": 40, "burn_ms": 0.2, "wave": 0.25, "wave_s": 30.0, "pool": 40}, dependency=True, deploy=True
    ),
    "held_quiet_postgresql": Scenario({"rate": 20, "burn_ms": 0.2, "pool": 30}, postgresql=True),
}
"""Those that were recorded after the rules were frozen."""
