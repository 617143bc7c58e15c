//! The formats for other programs and for documents.

use std::fs::{self, File};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::Data;
use crate::support::account::Account;

#[test]
fn a_parquet_report_is_read_by_other_programs_and_says_what_it_rests_on() {
    let data = Data::with(&Account::whole());
    let path = data.path().join("usage.parquet");
    let written = data.analyze(&["usage", "--format", "parquet", "-o", path.to_str().unwrap()]);
    assert_eq!((written.code, written.stdout.as_str()), (0, ""), "{}", written.stderr);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let footer = metadata.iter().find(|pair| pair.key == "weir.report").unwrap();
    assert_eq!(footer.value.as_deref().unwrap(), written.stderr.trim_end());
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let csv = data.answer(&["usage", "--format", "csv"]);
    let names: Vec<String> =
        batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names.join(","), csv.lines().next().unwrap());
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, csv.lines().count() - 1);
}

#[test]
fn a_report_in_markdown_reads_well() {
    let data = Data::with(&Account::whole());
    let arguments =
        ["usage", "--by", "customer,service", "--service", "web", "--format", "markdown"];
    insta::assert_snapshot!("markdown", data.answer(&arguments));
}

#[test]
fn the_same_data_has_the_same_hash_and_other_data_another() {
    let line = |data: &Data| {
        let report = data.answer(&["usage"]);
        report.lines().last().unwrap().to_owned()
    };
    let whole = line(&Data::with(&Account::whole()));
    assert_eq!(whole, line(&Data::with(&Account::whole())));
    let mut changed = Account::whole();
    changed.usage[0].bytes_up += 1;
    assert_ne!(whole, line(&Data::with(&changed)));
}

#[test]
fn a_report_that_cannot_be_written_leaves_no_file() {
    let data = Data::with(&Account::whole());
    let nowhere = data.path().join("no/such/directory/usage.parquet");
    let run = data.analyze(&["usage", "--format", "parquet", "-o", nowhere.to_str().unwrap()]);
    assert_eq!(run.code, 74, "{}", run.stderr);
    assert!(run.stderr.contains("cannot write"), "{}", run.stderr);
    assert!(!nowhere.exists() && fs::read_dir(data.path()).unwrap().count() == 3);
}
