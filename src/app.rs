//! Builds and runs the whole: the only owner of long-lived tasks.
