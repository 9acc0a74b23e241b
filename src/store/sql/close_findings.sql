UPDATE finding SET gone_at = $1
WHERE gone_at IS NULL
  AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[], $4::text[]) AS held (code, subject, message)
                  WHERE held.code = finding.code AND held.subject = finding.subject AND held.message = finding.message)
