"""Named fault patterns over several series of an entity: rules, roles, evidence. No I/O."""
