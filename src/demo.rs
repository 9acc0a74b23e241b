//! A simulated mesh that serves real scrape pages, sends real spans and has real incidents.
