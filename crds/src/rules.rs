//! Patterns shared by the schemas, each written once.

/// A Kubernetes object name (RFC 1123 subdomain).
pub const NAME: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// A namespace (RFC 1123 label).
pub const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// An API group; empty is the core group.
pub const API_GROUP: &str = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$";
/// A kind.
pub const KIND: &str = r"^[A-Z][A-Za-z0-9]*$";
/// `sha256:` and 64 lower-case hexadecimal digits.
pub const DIGEST: &str = r"^sha256:[0-9a-f]{64}$";
/// A length of time: a whole number and one of s, m, h, d.
pub const DURATION: &str = r"^[1-9][0-9]{0,8}(s|m|h|d)$";
/// A local date and time without zone.
pub const LOCAL_TIME: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?$";
/// A local date.
pub const LOCAL_DATE: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$";
/// A uid as the API server makes them.
pub const UID: &str = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
/// An HTTP address without query and fragment, and without credentials.
pub const HTTP_ADDRESS: &str = r"^https?://[A-Za-z0-9.\-_\[\]:]+(/[A-Za-z0-9.\-_~/%]*)?$";
/// An HTTP URL without fragment and credentials; the braces are those of placeholders.
pub const HTTP_URL: &str =
    r"^https?://[A-Za-z0-9.\-_\[\]:{}]+(/[A-Za-z0-9.\-_~/%{}:@!$&'()*+,;=]*)?(\?[A-Za-z0-9.\-_~/%{}:@!$&'()*+,;=?]*)?$";
/// A cron expression: five fields, or a name such as `@daily`.
pub const CRON: &str = r"^(@[a-z]+|[^ ]+( +[^ ]+){4})$";
/// A time zone of the IANA database.
pub const TIME_ZONE: &str = r"^[A-Za-z0-9_+\-/]+$";
/// An absolute path without `.` and `..`.
pub const PATH: &str = r"^/([^/\x00]+/?)*$";
/// A quantity of a resource, such as `500m`, `2` or `8Gi`.
pub const QUANTITY: &str = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$";
/// An image.
pub const IMAGE: &str = r"^[A-Za-z0-9][A-Za-z0-9._\-:/@]*$";
/// An identifier of SQL that needs no quotes.
pub const SQL_NAME: &str = r"^[a-z_][a-z0-9_]{0,62}$";
/// Where a restic repository lives. Credentials never stand in it.
pub const RESTIC_URL: &str = r"^(s3:(https?://)?[A-Za-z0-9.\-_:\[\]]+(/[^@ ]*)?|rest:https?://[A-Za-z0-9.\-_:\[\]]+(/[^@ ]*)?|sftp:(//([A-Za-z0-9._\-]+@)?([A-Za-z0-9.\-_]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/[^@ ]+|([A-Za-z0-9._\-]+@)?[A-Za-z0-9.\-_]+:[^@ ]+))$";
