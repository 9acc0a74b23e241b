//! PostgreSQL: private server, pool, migrations, bulk writes and queries.
