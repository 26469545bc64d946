"""From a recommendation to a change that is proved or taken back: guard, journal, executor, watch, audit."""
