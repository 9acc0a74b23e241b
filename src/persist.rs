//! Moves memory into the store and back: journal, chunks, rollups, spans, alert history, outbox.
