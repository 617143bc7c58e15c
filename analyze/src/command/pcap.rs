//! `analyze pcap`

use std::path::Path;

use super::Verdict;
use crate::cli::PcapArgs;
use crate::failure::Failure;

pub(super) fn run(args: &PcapArgs, _data: &Path) -> Result<Verdict, Failure> {
    Err(Failure::Internal(format!("cannot copy the packets of {}: not built yet", args.session)))
}
