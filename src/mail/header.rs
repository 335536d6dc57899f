//! Header fields as ranges of the raw bytes: the one authority for what is removed, kept and added.
