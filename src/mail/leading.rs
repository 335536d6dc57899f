//! The leading block: the envelope written on top of a message file (contract §2); read and written here.
