//! Metrics as a scraper reads them, and alerts as operators hear of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use e2e_tests::endpoint::{Plan, TcpServer, UdpServer, converse, exchange};
use e2e_tests::scene::Scene;
use e2e_tests::wait::{self, DEADLINE};
use forwarder::metrics::FAMILIES;

const PLAN: Plan = Plan { up: 300_000, down: 700_000 };

/// One sample of a scrape.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A scrape, read as strictly as the text format of OpenMetrics 1.0 is written.
#[derive(Debug, Default)]
struct Scrape {
    kinds: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        let (mut family, mut helped) = (String::new(), BTreeSet::new());
        for line in body.lines() {
            assert_eq!(line.trim(), line, "no space at either end");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a text");
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{name} twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a kind");
                assert!(helped.contains(name), "{name} is of a kind before it is explained");
                let kinds = ["counter", "gauge", "histogram", "info"];
                assert!(kinds.contains(&kind), "{kind}");
                assert!(scrape.kinds.insert(name.to_owned(), kind.to_owned()).is_none());
                name.clone_into(&mut family);
            } else {
                let sample = Sample::parse(line);
                let suffixes: &[&str] = match scrape.kinds[&family].as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "info" => &["_info"],
                    _ => &["_bucket", "_sum", "_count"],
                };
                let suffix = sample.name.strip_prefix(&family).expect("families do not interleave");
                assert!(suffixes.contains(&suffix), "{line}");
                let same = |one: &Sample| one.name == sample.name && one.labels == sample.labels;
                assert!(!scrape.samples.iter().any(same), "twice: {line}");
                scrape.samples.push(sample);
            }
        }
        scrape.check_histograms();
        scrape
    }

    fn check_histograms(&self) {
        let of = |sample: &Sample| {
            let mut labels = sample.labels.clone();
            labels.remove("le");
            labels
        };
        for count in self.samples.iter().filter(|sample| sample.name.ends_with("_count")) {
            let name = count.name.replace("_count", "_bucket");
            let buckets: Vec<_> = self
                .samples
                .iter()
                .filter(|sample| sample.name == name && of(sample) == count.labels)
                .collect();
            assert!(buckets.windows(2).all(|pair| pair[0].value <= pair[1].value), "{name}");
            let last = buckets.last().expect("a histogram has buckets");
            assert_eq!((last.labels["le"].as_str(), last.value), ("+Inf", count.value));
        }
    }

    /// The sum of the samples with these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).is_some_and(|found| found == value)
            };
            sample.name == name && labels.iter().all(has)
        };
        self.samples.iter().filter(has).map(|sample| sample.value).sum()
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        let value = value.parse().unwrap_or_else(|_| panic!("no number in {line}"));
        let Some((name, rest)) = series.split_once('{') else {
            return Self { name: series.to_owned(), labels: BTreeMap::new(), value };
        };
        let mut labels = BTreeMap::new();
        let mut rest = rest.strip_suffix('}').expect("the labels end");
        while !rest.is_empty() {
            let (key, value) = rest.split_once("=\"").expect("a label and its value");
            let (value, more) = value.split_once('"').expect("the value ends");
            assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{key}");
            assert!(!value.contains('\\'), "no name of ours needs escaping");
            assert!(labels.insert(key.to_owned(), value.to_owned()).is_none(), "{key} twice");
            rest = more.strip_prefix(',').unwrap_or(more);
        }
        Self { name: name.to_owned(), labels, value }
    }
}

fn get(from: SocketAddr) -> String {
    let ask = || {
        let mut stream = TcpStream::connect(from)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = ask().expect("the forwarder serves metrics");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    body.to_owned()
}

/// Where the running forwarder says it serves metrics.
fn served(scene: &mut Scene) -> SocketAddr {
    wait::until("metrics are served", || {
        let log = scene.forwarder().log();
        let (_, rest) = log.split_once("serving metrics address=")?;
        rest.split_whitespace().next()?.parse().ok()
    })
}

#[test]
fn a_scrape_says_what_clients_and_servers_have_counted() {
    let mut scene = Scene::new();
    let (tcp, udp) = (TcpServer::start(scene.ip()), UdpServer::start(scene.ip()));
    let (listen, dead) = (scene.free_address(), scene.free_address());
    let ruled = "action = \"pass\"\n[[rule.limit]]\nper = \"rule\"\nsessions = 100\n";
    scene.configure(&format!(
        "metrics = \"127.0.0.1:0\"\n[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\n\
         target = [\"{}\"]\n[[service]]\nname = \"dns\"\nlisten = [\"udp://{listen}\"]\n\
         target = [\"{}\"]\n[[rule]]\nname = \"no\"\nfrom = [\"127.9.9.9\"]\naction = \"block\"\n\
         [[rule]]\nname = \"dead\"\nservices = [\"web\"]\nfrom = [\"127.9.9.8\"]\n\
         target = [\"{dead}\"]\naction = \"pass\"\n[[rule]]\nname = \"all\"\n{ruled}",
        tcp.address(),
        udp.address(),
    ));
    scene.start_forwarder();
    let from = served(&mut scene);
    for number in 0..5 {
        exchange(scene.client(number), listen, PLAN).unwrap();
    }
    converse(scene.client(7), listen, &[(100, 200)]).unwrap();
    for refused in ["127.9.9.9:0", "127.9.9.8:0"] {
        assert!(exchange(refused.parse().unwrap(), listen, PLAN).is_err());
    }
    let web = [("service", "web"), ("rule", "all")];
    let scrape = wait::until("the ends of all sessions", || {
        let scrape = Scrape::parse(&get(from));
        let over = scrape.sum("forwarder_sessions_closed_total", &[("service", "web")]);
        (over == 6.0 && scrape.sum("forwarder_denied_total", &[]) == 1.0).then_some(scrape)
    });
    let bytes = |direction| {
        let labels = [web[0], web[1], ("direction", direction)];
        scrape.sum("forwarder_bytes_total", &labels)
    };
    assert_eq!((bytes("up"), bytes("down")), (1_500_000.0, 3_500_000.0));
    assert_eq!(scrape.sum("forwarder_sessions_opened_total", &web), 5.0);
    assert_eq!(scrape.sum("forwarder_sessions_active", &web), 0.0);
    assert_eq!(scrape.sum("forwarder_sessions_active", &[("service", "dns")]), 1.0);
    assert_eq!(scrape.sum("forwarder_udp_sessions", &[("service", "dns")]), 1.0);
    assert_eq!(scrape.sum("forwarder_datagrams_total", &[("service", "dns")]), 2.0);
    assert_eq!(scrape.sum("forwarder_denied_total", &[("rule", "no"), ("reason", "rule")]), 1.0);
    let dead_end = [("rule", "dead"), ("reason", "target_refused")];
    assert_eq!(scrape.sum("forwarder_connect_failures_total", &dead_end), 1.0);
    assert_eq!(scrape.sum("forwarder_session_duration_seconds_count", &web[..1]), 6.0);
    assert_eq!(scrape.sum("forwarder_connect_seconds_count", &web[..1]), 5.0);
    let target = tcp.address().to_string();
    assert_eq!(scrape.sum("forwarder_target_up", &[("target", &target)]), 1.0);

    scene.run("forwarder", &["reload"]).fine();
    let text = get(from);
    let reloaded = Scrape::parse(&text);
    let in_force = [("result", "in_force")];
    assert_eq!(reloaded.sum("forwarder_config_reloads_total", &in_force), 1.0);
    assert_eq!(reloaded.sum("forwarder_sessions_opened_total", &web), 5.0, "none goes back");
    for client in [scene.client(0), scene.client(7)] {
        assert!(!text.contains(&client.to_string()), "a client is named:\n{text}");
    }
    assert!(!text.contains("127.9.9.9"), "a client is named:\n{text}");

    let listed: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let suffix = |kind: &str| match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    let shown: BTreeSet<String> =
        reloaded.kinds.iter().map(|(name, kind)| format!("{name}{}", suffix(kind))).collect();
    assert_eq!(shown.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
}

#[test]
fn an_address_that_is_taken_ends_the_start() {
    let scene = Scene::new();
    let tcp = TcpServer::start(scene.ip());
    let taken = tcp.address();
    scene.configure(&format!(
        "metrics = \"{taken}\"\n[[service]]\nname = \"web\"\nlisten = [\"tcp://{}\"]\n\
         target = [\"{taken}\"]\n[[rule]]\nname = \"all\"\naction = \"pass\"\n",
        scene.free_address()
    ));
    let said = scene.run("forwarder", &["run"]);
    said.refused(69, &["cannot serve metrics", &taken.to_string(), "admin.metrics"]);
}

#[test]
fn an_alert_is_told_when_it_begins_and_when_it_is_over() {
    let mut scene = Scene::new();
    let tcp = TcpServer::start(scene.ip());
    let listen = scene.free_address();
    let anywhere = SocketAddr::new(scene.ip(), 0);
    let services = format!(
        "metrics = \"127.0.0.1:0\"\n[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\n\
         target = [\"{}\"]\n[[rule]]\nname = \"all\"\naction = \"pass\"\n",
        tcp.address()
    );
    let quiet =
        "[[alert]]\nname = \"quiet\"\nservices = [\"web\"]\nevery = \"2s\"\nbelow = \"1 kB\"\n";
    let ends = "[[alert]]\nname = \"leavers\"\nevery = \"60s\"\nabove = \"2 and 50%\"\nends_by = \"client\"\n";
    scene.configure(&format!("{services}{quiet}{ends}"));
    scene.start_recorder();
    scene.start_forwarder();
    let from = served(&mut scene);
    let on = |name: &str| Scrape::parse(&get(from)).sum("forwarder_alert_on", &[("alert", name)]);
    wait::until("the alert", || (on("quiet") == 1.0).then_some(()));
    let log = scene.forwarder().log();
    assert!(log.contains("alert quiet: 0 bytes in 2s, fewer than 1000"), "{log}");
    assert!(!log.contains("leavers"), "{log}");
    wait::until("its end", || {
        exchange(anywhere, listen, PLAN).unwrap();
        (on("quiet") == 0.0).then_some(())
    });
    wait::until("the other alert", || {
        exchange(anywhere, listen, PLAN).unwrap();
        (on("leavers") == 1.0).then_some(())
    });
    let log = scene.forwarder().log();
    assert_eq!(log.matches("alert quiet is over after").count(), 1, "{log}");
    assert!(log.contains("alert leavers: clients ended"), "{log}");

    scene.configure(&format!("{services}{quiet}"));
    scene.run("forwarder", &["reload"]).fine();
    wait::until("the alert is cleared", || {
        scene.forwarder().log().contains("alert leavers is cleared").then_some(())
    });
    assert!(scene.stop_forwarder().success());
    scene.flush();
    let query = "SELECT severity, service, value, threshold, message FROM events \
                 WHERE kind = 'alert' ORDER BY seq";
    let rows = scene.rows(&["sql", query]);
    assert!(rows.len() >= 4, "{rows:?}");
    assert_eq!(rows[0]["severity"], "warning");
    assert_eq!((&rows[0]["service"], &rows[0]["threshold"]), (&"web".into(), &1000.0.into()));
    assert_eq!(rows[1]["severity"], "info");
    let last = rows.last().unwrap()["message"].as_str().unwrap();
    assert!(last.contains("leavers is cleared") || last.contains("quiet"), "{last}");
}
