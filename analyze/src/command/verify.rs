//! `analyze verify`

use std::path::Path;

use super::Verdict;
use crate::cli::VerifyArgs;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::verify;

pub(super) fn run(args: &VerifyArgs, data: &Path) -> Result<Verdict, Failure> {
    let dataset = Dataset::open(data)?;
    let checks = verify::run(dataset)?;
    verify::write(&checks, &args.output)?;
    let fault = checks.iter().any(|check| check.faults.total > 0);
    Ok(if fault { Verdict::Fault } else { Verdict::Fine })
}
