INSERT INTO progress (name, at) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE
SET at = CASE WHEN progress.at > excluded.at + interval '1 day' THEN excluded.at ELSE greatest(progress.at, excluded.at) END
