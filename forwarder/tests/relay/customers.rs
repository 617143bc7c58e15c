//! Customers by the networks of their clients.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use forwarder_core::config::{Customer, CustomerFile};
use schemas::vocab::Transport::Tcp;

use crate::support::*;

fn customers(networks: &[(&str, &str)]) -> Option<Customer> {
    let parsed =
        |(network, customer): &(&str, &str)| (network.parse().unwrap(), customer.parse().unwrap());
    Some(Customer::ByNetwork(CustomerFile {
        path: PathBuf::from("customers.toml"),
        networks: networks.iter().map(parsed).collect(),
    }))
}

/// A connection from an address of ours. Who is refused may hear of it before it stands.
fn client_from(address: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: SocketAddr = format!("{address}:0").parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect_timeout(&to.into(), DEADLINE)?;
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

#[test]
fn the_smallest_network_of_a_client_names_who_is_billed_and_who_was_refused() {
    let target = tcp_target();
    let text = "[[rule]]\nname = \"no\"\nfrom = [\"127.0.2.0/24\"]\naction = \"block\"\n[[rule]]";
    let text = one_service(Tcp, &[target.local_addr().unwrap()]).replace("[[rule]]", text);
    let networks = [("127.0.0.0/16", "globex"), ("127.0.2.0/24", "acme"), ("127.0.0.7/32", "acme")];
    let scene = Scene::start_changed(&text, Setup::default(), |config| {
        for rule in &mut config.rules {
            rule.customer = customers(&networks);
        }
    });
    for client in ["127.0.0.2", "127.0.0.7", "127.9.0.1"] {
        let mut client = client_from(client, scene.address(0)).unwrap();
        let mut served = accept(&target);
        pass(&mut client, &mut served, b"hello");
    }
    for client in ["127.0.2.1", "127.0.2.2"] {
        if let Ok(mut client) = client_from(client, scene.address(0)) {
            drop(read_to_end(&mut client));
        }
    }
    until("both were refused", || scene.account.opened_and_denied().1 == 2);
    let rows = scene.finish();
    let billed: BTreeMap<_, _> =
        rows.sessions.iter().map(|row| (row.client_ip.as_str(), row.customer.as_deref())).collect();
    let expected =
        [("127.0.0.2", Some("globex")), ("127.0.0.7", Some("acme")), ("127.9.0.1", None)];
    assert_eq!(billed, BTreeMap::from(expected));
    for usage in &rows.usage {
        assert_eq!(usage.customer.as_deref(), billed[usage.client_ip.as_str()], "{usage:?}");
    }
    assert_eq!(rows.denied.len(), 2);
    for denied in &rows.denied {
        assert_eq!(denied.customer.as_deref(), Some("acme"), "{denied:?}");
    }
}
