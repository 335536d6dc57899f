//! What goes over the wire: the file's bytes minus leading block and Bcc, plus stamps.
