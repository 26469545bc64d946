"""Sources of live series: each source implements `trimtab.engine.ports.Source`.

Sources do not know each other. They share `rates.py` (counters to rates, units) and `no_history.py`.
"""
