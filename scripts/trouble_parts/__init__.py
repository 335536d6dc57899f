"""The parts of scripts/trouble."""
