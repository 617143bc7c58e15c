//! `analyze pcap`

use std::io::{self, IsTerminal as _};
use std::path::Path;

use super::{Verdict, captured};
use crate::cli::{CaptureFormat, Payload, PcapArgs};
use crate::failure::Failure;
use crate::pcap::{Output, Side};
use crate::progress::Progress;
use crate::report::Sink;

pub(super) fn run(args: &PcapArgs, data: &Path) -> Result<Verdict, Failure> {
    let output = match (args.payload, args.format) {
        (Some(Payload::Up), _) => Output::Payload(Side::Up),
        (Some(Payload::Down), _) => Output::Payload(Side::Down),
        (Some(Payload::Both), _) => Output::Payload(Side::Both),
        (None, CaptureFormat::Pcapng) => Output::Pcapng,
        (None, CaptureFormat::Pcap) => Output::Pcap,
    };
    if args.output.is_none() && io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "packets and payload would spoil the terminal: name a file with -o, or a program behind |"
                .to_owned(),
        ));
    }
    let _progress = Progress::start("copying packets");
    captured::write(&args.session, data, output, Sink::open(args.output.as_deref())?)?;
    Ok(Verdict::Fine)
}
