//! `analyze wireshark`

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::{Verdict, captured};
use crate::cli::WiresharkArgs;
use crate::failure::Failure;
use crate::pcap::Output;
use crate::progress::Progress;
use crate::report::Sink;
use crate::scratch::Scratch;

pub(super) fn run(args: &WiresharkArgs, data: &Path) -> Result<Verdict, Failure> {
    let scratch = Scratch::create()?;
    let file = scratch.path().join(format!("{}.pcapng", args.session.replace('/', "_")));
    let progress = Progress::start("copying packets");
    captured::write(&args.session, data, Output::Pcapng, Sink::open(Some(&file))?)?;
    drop(progress);
    let status = Command::new(&args.with).arg("-r").arg(&file).status();
    ended(args, status)
}

fn ended(args: &WiresharkArgs, status: io::Result<ExitStatus>) -> Result<Verdict, Failure> {
    let (program, session) = (args.with.display(), &args.session);
    match status {
        Ok(status) if status.success() => Ok(Verdict::Fine),
        Ok(status) => Err(Failure::Unavailable(format!(
            "{program} ended with {status}; `analyze pcap {session} -o FILE` writes the packets for another program"
        ))),
        Err(error) => Err(Failure::Unavailable(format!(
            "cannot start {program}: {error}; install it, name another program with --with, or write the packets \
             with `analyze pcap {session} -o FILE`"
        ))),
    }
}
