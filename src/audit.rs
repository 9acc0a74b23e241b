//! Checks what is declared against what happens.
