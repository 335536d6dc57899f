"""Parts of scripts/bench: machine (where), senders and postfix (who), rows (what), table (how it is shown)."""
