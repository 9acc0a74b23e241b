//! Browser pages.
