//! `analyze wireshark`

use std::path::Path;

use super::Verdict;
use crate::cli::WiresharkArgs;
use crate::failure::Failure;

pub(super) fn run(args: &WiresharkArgs, _data: &Path) -> Result<Verdict, Failure> {
    Err(Failure::Internal(format!("cannot copy the packets of {}: not built yet", args.session)))
}
