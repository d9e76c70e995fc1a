//! What the key manager as a whole must hold to, row by row.
