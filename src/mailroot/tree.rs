//! Making the folders of a mailroot.
