//! The scenarios of backups, as tables and as properties.
