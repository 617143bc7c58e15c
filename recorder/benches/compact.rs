//! A day of `usage` merged into parts of 256 MiB: rows and bytes a second, and the memory it takes.
//!
//! `cargo bench --bench compact -- ROWS PARTS` (10,000,000 rows in 240 parts).

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set its scene should fail")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use recorder::compact::{Rhythm, merge, plan};
use recorder::data_dir::Group;
use recorder::files::Files;
use schemas::manifest::Part;
use schemas::table::Usage;
use sha2::{Digest, Sha256};

/// 2026-10-31T00:00:00Z.
const DAY: i64 = 1_793_404_800_000_000;
const SLOT_US: i64 = 300_000_000;
const SLOTS: i64 = 288;
const DIRECTORY: &str = "accounting/usage/date=2026-10-31";

fn main() {
    // `cargo bench` adds a word of its own.
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<i64>().ok());
    let rows = numbers.next().unwrap_or(10_000_000);
    let parts = numbers.next().unwrap_or(240);
    let data = tempfile::tempdir().unwrap();
    fs::create_dir_all(data.path().join(DIRECTORY)).unwrap();
    let parts: Vec<_> = (0..parts).map(|n| write_part(data.path(), n, parts, rows)).collect();
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();

    // From here on the peak is the merge's.
    let baseline = memory("VmRSS:");
    File::options().write(true).open("/proc/self/clear_refs").unwrap().write_all(b"5").unwrap();
    let files = Files::new(data.path(), Group::nobody());
    let steps = plan(parts.iter(), 1, Rhythm::Hourly, i64::MAX);
    let began = Instant::now();
    let (mut made, mut merged_rows) = (Vec::new(), 0);
    for step in &steps {
        let merged = merge(&files, step, &|| false).unwrap();
        merged_rows += merged.rows;
        made.extend(merged.parts);
    }
    let seconds = began.elapsed().as_secs_f64();
    let made_bytes: u64 = made.iter().map(|part| part.bytes).sum();
    println!(
        "{merged_rows} rows, {} parts of {:.1} MB into {} of {:.1} MB in {} steps: {seconds:.1} s, \
         {:.0} rows/s, {:.1} MB/s read, peak {} kB (before {baseline} kB)",
        parts.len(),
        bytes as f64 / 1e6,
        made.len(),
        made_bytes as f64 / 1e6,
        steps.len(),
        merged_rows as f64 / seconds,
        bytes as f64 / 1e6 / seconds,
        memory("VmHWM:")
    );
}

fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The `n`th part of a day: what came in its share of the day, each row of the slot that it came in.
fn write_part(data: &Path, n: i64, parts: i64, rows: i64) -> Part {
    let (first, last) = (rows * n / parts, rows * (n + 1) / parts);
    let row = |index: i64| {
        let noise = index.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(23);
        Usage {
            node: format!("edge-{}", noise & 1),
            boot: "k3f9x2ab".into(),
            session_no: noise & 0xf_ffff,
            seq: Some(index + 1),
            interval_seq: i32::try_from(noise >> 20 & 15).unwrap(),
            slot_start: DAY + index * SLOTS / rows * SLOT_US,
            slot_len_s: 300,
            service: format!("service-{}", noise >> 8 & 7),
            rule: format!("rule-{}", noise >> 8 & 15),
            config_rev: "0123456789abcdef".into(),
            customer: Some(format!("customer-{}", noise >> 12 & 255)),
            transport: "tcp".into(),
            client_ip: format!("10.{}.{}.{}", noise >> 3 & 15, noise >> 9 & 255, noise >> 17 & 255),
            target_ip: Some(format!("192.0.2.{}", noise >> 30 & 63)),
            bytes_up: noise >> 7 & 0xf_ffff,
            bytes_down: noise >> 15 & 0xff_ffff,
            total_up: noise >> 5 & 0xfff_ffff,
            total_down: noise >> 11 & 0xfff_ffff,
            active_us: noise >> 25 & 0xfff_ffff,
            ..Usage::default()
        }
    };
    let mut rows: Vec<_> = (first..last).map(row).collect();
    let key = |row: &Usage| (row.slot_start, row.node.clone(), row.session_no, row.interval_seq);
    rows.sort_by_cached_key(key);
    let path = format!("{DIRECTORY}/log-{n:020}.parquet");
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let mut content = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut content, Usage::schema(), Some(properties)).unwrap();
    for block in rows.chunks(1024) {
        writer.write(&Usage::to_batch(block).unwrap()).unwrap();
    }
    writer.close().unwrap();
    fs::write(data.join(&path), &content).unwrap();
    Part {
        table: "usage".into(),
        path,
        rows: rows.len().try_into().unwrap(),
        bytes: content.len().try_into().unwrap(),
        min_time_us: rows[0].slot_start,
        max_time_us: rows[rows.len() - 1].slot_start,
        sha256: Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
