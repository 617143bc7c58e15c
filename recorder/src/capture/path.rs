//! Where capture files lie.

use std::time::SystemTime;

use jiff::Timestamp;
use schemas::vocab::ServiceName;

use super::DIRECTORY;

/// The final path of a file of `service` opened at `now`, below the data directory:
/// `captures/<service>/<YYYY>/<MM>/<DD>/<YYYYMMDD>T<HHMMSS.mmm>Z-<service>-<seq>.pcapng`, in UTC.
pub(super) fn file_name(service: &ServiceName, now: SystemTime, seq: u64) -> String {
    let now = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
    let service = service.as_str();
    let day = now.strftime("%Y/%m/%d");
    let time = now.strftime("%Y%m%dT%H%M%S.%3fZ");
    format!("{DIRECTORY}/{service}/{day}/{time}-{service}-{seq:04}.pcapng")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_is_found_by_service_day_and_time() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_352_400_123);
        assert_eq!(
            file_name(&"web".parse().unwrap(), at, 7),
            "captures/web/2026/11/22/20261122T130000.123Z-web-0007.pcapng"
        );
    }
}
