//! Tells receivers: routing, grouping, inhibition, silences, deduplication, retry.
