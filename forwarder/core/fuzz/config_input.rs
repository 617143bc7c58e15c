//! What must hold for any text that is read as a configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forwarder_core::config::{
    Config, Environment, admin_socket_of, listener_changes, start_only_changes,
};
use forwarder_core::matching::{Book, Client, Fact, Matcher, Verdict};

/// Reads `input` as a configuration. Nothing may panic; what is refused says where and why, within
/// the file; what is taken judges every client, and does not differ from itself.
pub(crate) fn check(input: &[u8]) {
    let Ok(source) = std::str::from_utf8(input) else { return };
    let environment = Environment {
        host_name: "edge-1".to_owned(),
        local_addresses: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
        congestion_controls: Vec::new(),
        files: std::collections::BTreeMap::new(),
    };
    admin_socket_of(source);
    match Config::parse(source, "f", &environment) {
        Ok(config) => {
            assert!(!config.warnings.has_faults());
            assert!(start_only_changes(&config, &config).is_empty());
            assert!(listener_changes(&config, &config).is_empty());
            judge_everyone(&config);
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

fn judge_everyone(config: &Config) {
    let matcher = Matcher::new(config, &Book::default());
    assert!(!config.services.is_empty());
    let clients: [IpAddr; 3] =
        [Ipv4Addr::new(10, 1, 2, 3).into(), Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
    for (service, listener) in config
        .services
        .iter()
        .enumerate()
        .flat_map(|(index, s)| s.listeners.iter().map(move |l| (index, *l)))
    {
        for ip in clients {
            let (reverse, server_name) = (Fact::Unknown, Fact::Unknown);
            let client = Client { listener, ip, port: 40_000, reverse, server_name };
            if let Verdict::Pass { rule } = matcher.judge(service, &client) {
                assert!(!config.targets(service, rule).is_empty(), "a pass leads somewhere");
            }
        }
    }
}
