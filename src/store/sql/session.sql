-- No statement of a page or of a periodic task may hold a connection for ever.
SET statement_timeout = '120s';
SET lock_timeout = '20s';
SET idle_in_transaction_session_timeout = '120s';
SET jit = off;
