//! `docs/tables.md` is rendered from the tables themselves.

#![expect(clippy::unwrap_used, reason = "writing to a String cannot fail")]

use std::fmt::Write;
use std::path::Path;

use schemas::table::{SCHEMA_VERSION, TABLES};

fn render() -> String {
    let mut text = format!(
        "# The tables\n\nSix Parquet tables, schema version {SCHEMA_VERSION}. All times are UTC in microseconds without a \
         zone, counters are signed 64-bit and never negative, addresses are RFC 5952 text and IPv4 is \
         never written as `::ffff:`. Columns are only ever added, at the end and nullable; readers \
         accept words they do not know.\n\nA session is written `<boot>-<session_no>`, as in \
         `k3f9x2ab-1042`; `analyze` adds it to its views as the column `session`.\n"
    );
    for table in TABLES {
        write!(
            text,
            "\n## {}\n\n{}\n\nPartition `date=`: the UTC day of `{}`.\n\n| column | type | unit | meaning |\n|---|---|---|---|\n",
            table.name,
            table.doc.trim(),
            table.partition_time
        )
        .unwrap();
        for column in table.columns {
            let null = if column.nullable() { ", NULL" } else { "" };
            writeln!(
                text,
                "| `{}` | {}{null} | {} | {} |",
                column.name,
                column.kind,
                column.unit,
                column.doc.replace('|', "\\|")
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn the_reference_of_the_tables_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tables.md");
    let rendered = render();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &rendered).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == rendered, "docs/tables.md is stale: run this test with UPDATE_DOCS=1");
}
