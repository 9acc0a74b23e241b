//! Turns the configuration into scrape targets: static lists, watched files, relabelling.
