"""Change events near incidents: deploys, restarts, alerts of other systems. No I/O."""
