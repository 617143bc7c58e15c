//! `analyze verify`

use std::path::Path;

use super::Verdict;
use crate::cli::VerifyArgs;
use crate::failure::Failure;
use crate::verify;

pub(super) fn run(args: &VerifyArgs, data: &Path) -> Result<Verdict, Failure> {
    let report = verify::run(data)?;
    verify::write(&report, args)?;
    Ok(if report.is_whole() { Verdict::Fine } else { Verdict::Fault })
}
