"""Parts of scripts/power-cut: a disk that forgets (disk), what is tried on it (batches), what must be true afterwards
(promise, verdict), and what happens after the cut (afterwards)."""
