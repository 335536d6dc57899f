"""The parts of scripts/crash-sweep."""
