"""The parts of scripts/real-peers."""
