//! Scrapes proxies: HTTP, exposition formats, staleness, and the samples they give.
pub mod exposition;
