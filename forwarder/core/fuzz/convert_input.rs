//! What must hold for any text that is converted from Barefoot.

use forwarder_core::config::{Config, Environment};
use forwarder_core::convert::barefoot;

/// Converts `input`. Nothing may panic; what is refused says where and why, within the file; what
/// is made is a configuration, or its faults are told.
pub(crate) fn check(input: &[u8]) {
    let Ok(source) = std::str::from_utf8(input) else { return };
    match barefoot(source, "barefootd.conf") {
        Ok(made) => {
            let environment =
                Environment { host_name: "edge-1".to_owned(), ..Environment::default() };
            let config = Config::parse(&made.toml, "forwarder.toml", &environment);
            assert_eq!(config.is_err(), made.faults.has_faults(), "{}", made.toml);
            // Whatever is wrong, it is TOML, and without a key that is none.
            for fault in &made.faults.list {
                let ours =
                    fault.message.contains("not TOML") || fault.message.contains("not a key");
                assert!(!ours, "{}\n{}", fault.message, made.toml);
            }
        }
        Err(faults) => {
            assert!(faults.has_faults() && !faults.to_string().is_empty());
            let lines = source.split('\n').count();
            for place in faults.list.iter().filter_map(|fault| fault.place.as_ref()) {
                assert!((1..=lines).contains(&place.line) && place.column >= 1);
            }
        }
    }
}
