//! What tshark, capinfos and tcpdump have to say of a file. Every check gives a word on what is
//! wrong, so that broken files can show that it would notice.

use std::path::Path;
use std::process::Command;

use e2e_tests::process::try_output;

/// What a check found wrong.
pub(crate) type Verdict = Result<(), String>;

const CHECKSUMS: [&str; 6] = [
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
];
/// Random payload on known ports would wake real dissectors.
const PLAIN_DATA: [&str; 4] = ["-d", "tcp.port==2222,data", "-d", "udp.port==5300,data"];
const BAD: &str = "(_ws.expert.severity >= 6291456 && !(tcp.flags.reset==1)) || _ws.malformed \
                   || tcp.checksum.status==0 || udp.checksum.status==0 || ip.checksum.status==0 \
                   || tcp.analysis.retransmission || tcp.analysis.duplicate_ack \
                   || tcp.analysis.out_of_order";

/// Runs a tool; its standard output, or what it complained about.
pub(crate) fn run(tool: &str, args: &[&str]) -> Result<String, String> {
    let output = try_output(Command::new(tool).args(args).env("TZ", "UTC"));
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {tool}: {error}. Please type: sudo apt-get install tshark tcpdump")
    });
    let complaints = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = complaints
        .lines()
        .filter(|line| !line.contains("This could be dangerous"))
        .filter(|line| !line.starts_with("reading from file"))
        .collect();
    if !output.status.success() || !complaints.is_empty() {
        return Err(format!("{tool} {args:?}: {} {}", output.status, complaints.join("\n")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

/// Runs tshark over a file.
pub(crate) fn tshark(file: &Path, args: &[&str]) -> Result<String, String> {
    let mut all = vec!["-n", "-r", text(file)];
    all.extend(PLAIN_DATA);
    all.extend(args);
    run("tshark", &all)
}

/// The distinct lines of a field listing, sorted, each with how often it occurs.
pub(crate) fn tally(
    file: &Path,
    filter: &str,
    fields: &[&str],
) -> Result<Vec<(String, usize)>, String> {
    let mut args = vec!["-2", "-Y", filter, "-T", "fields"];
    args.extend(CHECKSUMS);
    for field in fields {
        args.extend(["-e", *field]);
    }
    let mut counts = std::collections::BTreeMap::new();
    for line in tshark(file, &args)?.lines() {
        *counts.entry(line.to_owned()).or_insert(0) += 1;
    }
    Ok(counts.into_iter().collect())
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Verdict {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?}, expected {expected:?}"))
    }
}

/// 1: the tools read it to its end.
pub(crate) fn readable(file: &Path) -> Verdict {
    run("capinfos", &[text(file)])?;
    tshark(file, &["-q", "-z", "io,phs"])?;
    Ok(())
}

/// 2: nothing to complain about.
pub(crate) fn clean(file: &Path) -> Verdict {
    let mut args = vec!["-2", "-Y", BAD];
    args.extend(CHECKSUMS);
    expect("complaints", tshark(file, &args)?, String::new())
}

/// 3: the payload of one direction, segment by segment.
pub(crate) fn tcp_payload(file: &Path, stream: &str, source: u16) -> Result<Vec<u8>, String> {
    let filter = format!("tcp.stream=={stream} && tcp.srcport=={source} && tcp.len>0");
    let desegment = "tcp.desegment_tcp_streams:FALSE";
    let lines =
        tshark(file, &["-o", desegment, "-Y", &filter, "-T", "fields", "-e", "tcp.payload"])?;
    Ok(lines.lines().flat_map(unhex).collect())
}

/// 4: what a user sees who follows the stream: up, and down.
pub(crate) fn follow(file: &Path, stream: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    let text = tshark(file, &["-q", "-z", &format!("follow,tcp,raw,{stream}")])?;
    // Node 0 is who spoke first.
    let listener_first = text.lines().any(|line| {
        line.starts_with("Node 0:") && line.ends_with(&format!(":{}", crate::speaker::TCP_PORT))
    });
    let body = text.lines().skip_while(|line| !line.starts_with("Node 1:")).skip(1);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for line in body.take_while(|line| !line.starts_with('=')) {
        match line.strip_prefix('\t') {
            Some(line) => down.extend(unhex(line)),
            None => up.extend(unhex(line)),
        }
    }
    Ok(if listener_first { (down, up) } else { (up, down) })
}

/// 5: every TCP and UDP checksum was verified and is good.
pub(crate) fn checksums(file: &Path) -> Verdict {
    for (filter, field) in [("tcp", "tcp.checksum.status"), ("udp", "udp.checksum.status")] {
        for (status, count) in tally(file, filter, &[field])? {
            expect(&format!("{field} of {count} packets"), status.as_str(), "1")?;
        }
    }
    Ok(())
}

/// 6: the service and the direction stand at every packet.
pub(crate) fn names_and_directions(file: &Path, service: &str) -> Verdict {
    let fields = ["frame.interface_name", "frame.packet_flags_direction", "eth.src"];
    for (line, _) in tally(file, "frame", &fields)? {
        let words: Vec<&str> = line.split('\t').collect();
        let [name, direction, source] = words[..] else { return Err(line) };
        expect("interface", name, service)?;
        let expected = if source == "02:00:00:00:00:01" { "0x00000001" } else { "0x00000002" };
        let expected = [expected, &expected.replace("0x0000000", "")];
        if !expected.contains(&direction) {
            return Err(format!("direction {direction} of a packet from {source}"));
        }
    }
    Ok(())
}

/// 7: the bytes that the packets of one source port stand for.
pub(crate) fn stream_bytes(file: &Path, stream: &str, source: u16) -> Result<u64, String> {
    let filter = format!("tcp.stream=={stream} && tcp.srcport=={source}");
    let lines = tshark(file, &["-Y", &filter, "-T", "fields", "-e", "tcp.len"])?;
    Ok(lines.lines().filter_map(|line| line.parse::<u64>().ok()).sum())
}

/// 8: how complete tshark finds a stream: 31 FIN, 47 RST, 28 begun in the middle, 37 refused.
pub(crate) fn completeness(file: &Path, stream: &str) -> Result<Vec<String>, String> {
    let filter = format!("tcp.stream=={stream}");
    let found = tally(file, &filter, &["tcp.completeness"])?;
    Ok(found.into_iter().map(|(value, _)| value).collect())
}

/// 9: the stream of a session, by its comment.
pub(crate) fn stream_of(file: &Path, session: &str, transport: &str) -> Result<String, String> {
    let filter = format!("frame.comment contains \"sid={session} \"");
    let found = tally(file, &filter, &[&format!("{transport}.stream")])?;
    match &found[..] {
        [(stream, _)] => Ok(stream.clone()),
        other => Err(format!("session {session} is found in the streams {other:?}")),
    }
}

/// 10: times never go back.
pub(crate) fn in_order(file: &Path) -> Verdict {
    let info = run("capinfos", &["-o", text(file)])?;
    if info.contains("True") { Ok(()) } else { Err(info) }
}

/// 11: nine decimals of the right year.
pub(crate) fn first_time(file: &Path) -> Result<String, String> {
    let line = tshark(file, &["-c", "1", "-T", "fields", "-e", "frame.time_epoch"])?;
    Ok(line.trim().to_owned())
}

/// 12: as many Community IDs as conversations.
pub(crate) fn community_ids(file: &Path) -> Result<usize, String> {
    let args = ["--enable-protocol", "communityid", "-T", "fields", "-e", "communityid"];
    let lines = tshark(file, &args)?;
    let distinct: std::collections::BTreeSet<&str> = lines.lines().collect();
    Ok(distinct.len())
}

/// 13: libpcap finds as many packets, and no wrong checksum.
pub(crate) fn libpcap_agrees(file: &Path, packets: usize) -> Verdict {
    let listing = run("tcpdump", &["-nr", text(file)])?;
    expect("packets", listing.lines().count(), packets)?;
    let listing = run("tcpdump", &["-nvvr", text(file)])?;
    let wrong: Vec<&str> = listing.lines().filter(|line| line.contains("incorrect")).collect();
    expect("tcpdump", wrong, Vec::new())
}

/// The datagrams of a direction of a UDP conversation.
pub(crate) fn datagrams(file: &Path, stream: &str, source: u16) -> Result<Vec<Vec<u8>>, String> {
    let filter = format!("udp.stream=={stream} && udp.srcport=={source}");
    let lines = tshark(file, &["-Y", &filter, "-T", "fields", "-e", "udp.payload"])?;
    Ok(lines.lines().map(|line| unhex(line).collect()).collect())
}

/// The checks that any whole capture without loss must pass.
pub(crate) fn all_is_well(file: &Path, service: &str, packets: usize) -> Verdict {
    readable(file)?;
    clean(file)?;
    checksums(file)?;
    names_and_directions(file, service)?;
    in_order(file)?;
    libpcap_agrees(file, packets)
}

fn unhex(line: &str) -> impl Iterator<Item = u8> + '_ {
    let digits = line.trim().as_bytes().chunks_exact(2);
    digits.map(|pair| {
        u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("tshark prints hex")
    })
}
