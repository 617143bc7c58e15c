//! The clients: browsers and resolvers of two customers, and a guest.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

const WEB: &str = "http://127.0.0.1:7480";
const DNS_PORT: u16 = 7453;
const PATIENCE: Duration = Duration::from_secs(5);

/// Two clients of acme, two of globex, and the guest who is refused.
const CLIENTS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 1, 10),
    Ipv4Addr::new(127, 0, 1, 11),
    Ipv4Addr::new(127, 0, 2, 20),
    Ipv4Addr::new(127, 0, 2, 21),
];
const GUEST: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 99);

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pages: AtomicU64,
    lookups: AtomicU64,
    refused: AtomicU64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [pages, lookups, refused] =
            [&self.pages, &self.lookups, &self.refused].map(|count| count.load(Ordering::Relaxed));
        write!(
            f,
            "{pages} pages loaded, {lookups} names looked up, {refused} attempts of a guest refused"
        )
    }
}

/// Lets all of them work for a while, and shows how it goes.
pub(crate) async fn run(time: Duration) -> Result<Arc<Tally>> {
    let tally = Arc::new(Tally::default());
    let mut tasks = JoinSet::new();
    for (number, client) in (0..).zip(CLIENTS) {
        tasks.spawn(browse(client, number, Arc::clone(&tally)));
        tasks.spawn(look_up(client, Arc::clone(&tally)));
    }
    tasks.spawn(knock(Arc::clone(&tally)));

    let bar = ProgressBar::new(time.as_secs());
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} s  {msg}")?);
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + time;
    loop {
        // Both branches are cancel-safe: a tick or a finished task is only taken when it is there.
        tokio::select! {
            _ = second.tick() => {
                bar.set_message(tally.to_string());
                if bar.is_hidden() {
                    println!("{:>3}/{} s  {tally}", bar.position(), time.as_secs());
                }
                if Instant::now() >= end {
                    break;
                }
                bar.inc(1);
            }
            Some(ended) = tasks.join_next() => match ended.context("a client panicked")? {
                Ok(()) => bail!("a client stopped early"),
                Err(error) => return Err(error),
            },
        }
    }
    bar.finish_and_clear();
    tasks.shutdown().await;
    Ok(tally)
}

/// Loads pages of growing sizes, each over a connection of its own, and uploads a note now and then.
async fn browse(from: Ipv4Addr, number: u64, tally: Arc<Tally>) -> Result<()> {
    let client = reqwest::Client::builder()
        .local_address(IpAddr::V4(from))
        .pool_max_idle_per_host(0)
        .timeout(PATIENCE)
        .no_proxy()
        .build()?;
    for round in 0_u64.. {
        let kib = 4 << ((round + number) % 8);
        let page =
            client.get(format!("{WEB}/pages/{kib}")).send().await.with_context(|| explain(from))?;
        let text = page.error_for_status()?.text().await?;
        if text.len() as u64 != kib * 1024 {
            bail!("a page of {kib} KiB came with {} bytes", text.len());
        }
        if round % 4 == 0 {
            let note =
                client.post(format!("{WEB}/uploads")).body("note\n".repeat(1024)).send().await?;
            note.error_for_status()?;
        }
        tally.pages.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

fn explain(from: Ipv4Addr) -> String {
    format!(
        "a client at {from} gets no page (macOS has only 127.0.0.1 until told: sudo ifconfig lo0 alias {from})"
    )
}

/// Looks names up over UDP, one socket for each, as resolvers do.
async fn look_up(from: Ipv4Addr, tally: Arc<Tally>) -> Result<()> {
    let mut udp = ConnectionConfig::udp();
    udp.port = DNS_PORT;
    udp.bind_addr = Some(SocketAddr::from((from, 0)));
    let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![udp]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    let resolver = builder.build()?;
    for round in 0_u64.. {
        let name = format!("host-{}.internal.example.", round % 8 + 1);
        let found = resolver
            .lookup_ip(name.as_str())
            .await
            .with_context(|| format!("cannot look up {name}"))?;
        if found.iter().next().is_none() {
            bail!("{name} has no address");
        }
        tally.lookups.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Tries to get in; a page would be a fault.
async fn knock(tally: Arc<Tally>) -> Result<()> {
    let client = reqwest::Client::builder()
        .local_address(IpAddr::V4(GUEST))
        .pool_max_idle_per_host(0)
        .no_proxy()
        .build()?;
    loop {
        let answer = timeout(PATIENCE, client.get(format!("{WEB}/pages/1")).send()).await;
        if matches!(answer, Ok(Ok(_))) {
            bail!("the guest got a page, although a rule blocks it");
        }
        tally.refused.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(400)).await;
    }
}
