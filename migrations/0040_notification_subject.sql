-- What a search by text looks at, so that it reads no body: a body may tell of ten thousand alerts.

ALTER TABLE notification
    -- Group, names, labels and summaries in lower case, bounded so that it stays in the row; null in rows of earlier versions.
    ADD COLUMN subject text;
