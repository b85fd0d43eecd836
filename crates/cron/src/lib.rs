//! Five-field cron expressions in IANA time zones.
