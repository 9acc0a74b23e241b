-- By which settings targets were scraped last, as a hash. A series that is new after a restart counted from zero since the
-- last scrape of its target only when the settings are still the same; else it may have been dropped until now.
CREATE TABLE scrape_settings (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    settings_id bigint NOT NULL
);
