INSERT INTO finding (code, severity, subject, line, message, fix, first_seen_at)
SELECT code, severity, subject, line, message, fix, $1
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::text[])
     AS held (code, subject, message, severity, line, fix)
ON CONFLICT (code, md5(subject), md5(message)) WHERE gone_at IS NULL DO NOTHING
