//! Holds spans on their way to the store, and derives metrics and edges from them.
