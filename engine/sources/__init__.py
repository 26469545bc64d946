"""Where live series come from: one file a source, each an implementation of `trimtab.engine.ports.Source`.

Sources are strangers to each other. What they share stands in `rates.py` (counters to rates, units);
helpers of one source carry its name in front, such as `prometheus_client.py`.
"""
