//! The internal servers: a web server and a name server that know nothing of Weir.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use hickory_server::proto::rr::rdata::{A, SOA};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::bound;

const WEB: &str = "127.0.0.1:7481";
const DNS: &str = "127.0.0.1:7454";

/// Both servers, running until aborted.
#[derive(Debug)]
pub(crate) struct Servers(JoinSet<()>);

impl Servers {
    pub(crate) fn abort(mut self) {
        self.0.abort_all();
    }
}

/// Starts both.
pub(crate) async fn start() -> Result<Servers> {
    let mut tasks = JoinSet::new();

    let listener = bound(WEB, TcpListener::bind(WEB).await)?;
    let app = Router::new()
        .route("/pages/{kib}", get(page))
        .route("/uploads", post(async |body: String| format!("{} bytes\n", body.len())));
    tasks.spawn(async move {
        // It ends only by being aborted.
        drop(axum::serve(listener, app).await);
    });

    let mut names = hickory_server::Server::new(catalog()?);
    names.register_socket(bound(DNS, UdpSocket::bind(DNS).await)?);
    names.register_listener(
        bound(DNS, TcpListener::bind(DNS).await)?,
        Duration::from_secs(5),
        4096,
    );
    tasks.spawn(async move {
        drop(names.block_until_done().await);
    });
    Ok(Servers(tasks))
}

/// A page of this many KiB of text.
async fn page(Path(kib): Path<u16>) -> String {
    "All the water of the river passes the weir, and is measured.   \n"
        .repeat(usize::from(kib.min(4096)) * 16)
}

/// The zone `internal.example.` with eight hosts.
fn catalog() -> Result<Catalog> {
    let zone = Name::from_ascii("internal.example.")?;
    let mut names =
        InMemoryZoneHandler::<hickory_server::net::runtime::TokioRuntimeProvider>::empty(
            zone.clone(),
            ZoneType::Primary,
            AxfrPolicy::Deny,
        );
    let admin = Name::from_ascii("hostmaster.internal.example.")?;
    let soa = SOA::new(zone.clone(), admin, 1, 3600, 600, 86_400, 60);
    names.upsert_mut(Record::from_rdata(zone.clone(), 60, RData::SOA(soa)), 1);
    for host in 1..=8 {
        let name = Name::from_ascii(format!("host-{host}.internal.example."))?;
        let address = A(Ipv4Addr::new(10, 0, 0, host));
        names.upsert_mut(Record::from_rdata(name, 60, RData::A(address)), 1);
    }
    let mut catalog = Catalog::new();
    catalog.upsert(zone.into(), vec![Arc::new(names)]);
    Some(catalog).context("the zone holds what was put into it")
}
