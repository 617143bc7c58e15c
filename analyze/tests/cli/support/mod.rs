//! A data directory as a recorder leaves it, made from rows.

pub(crate) mod account;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use arrow::array::RecordBatch;
use e2e_tests::process::output;
use parquet::arrow::ArrowWriter;
use schemas::manifest::{
    Checkpoint, DATA_FORMAT, Delta, Format, Part, checkpoint_file, delta_file,
};
use schemas::table::{Capture, Denied, Event, SCHEMA_VERSION, Session, Slot, Usage};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use account::Account;

/// A data directory that goes with the value.
pub(crate) struct Data {
    dir: TempDir,
    version: u64,
}

/// What a run of the program gave.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Data {
    /// An empty directory of the current format.
    pub(crate) fn empty() -> Self {
        let data = Self { dir: tempfile::tempdir().unwrap(), version: 0 };
        let format = Format { format: DATA_FORMAT, schema: SCHEMA_VERSION.to_owned() };
        fs::write(data.path().join("weir.json"), serde_json::to_string(&format).unwrap()).unwrap();
        fs::create_dir(data.path().join("manifest")).unwrap();
        data
    }

    /// A directory with one commit.
    pub(crate) fn with(account: &Account) -> Self {
        let mut data = Self::empty();
        data.commit(account);
        data
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Publishes the rows as one version of the manifest.
    pub(crate) fn commit(&mut self, account: &Account) {
        self.version += 1;
        let mut add = Vec::new();
        macro_rules! publish {
            ($($row:ident $field:ident),+) => {$(
                if !account.$field.is_empty() {
                    let table = &$row::TABLE;
                    let batch = $row::to_batch(&account.$field).unwrap();
                    add.push(self.part(table.name, table.partition_time, &batch));
                }
            )+};
        }
        publish!(
            Session sessions, Usage usage, Slot slots, Denied denied, Capture captures, Event events
        );
        let delta =
            Delta { version: self.version, add, boots: account.boots.clone(), ..Delta::default() };
        self.manifest(&delta);
    }

    /// Makes the file that the index of captures leads to.
    pub(crate) fn add_capture(&self) {
        let file = self.path().join("captures/web/2026-10-26.pcapng");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, vec![0; 5_000]).unwrap();
    }

    /// Writes a version again, changed.
    pub(crate) fn change(&self, version: u64, change: impl FnOnce(&mut Delta)) {
        let path = self.path().join("manifest").join(delta_file(version));
        let mut delta = Delta::decode(&fs::read(path).unwrap(), version).unwrap();
        change(&mut delta);
        self.manifest(&delta);
    }

    /// Writes the checkpoint of a version.
    pub(crate) fn checkpoint(&self, checkpoint: &Checkpoint) {
        let name = checkpoint_file(checkpoint.version);
        fs::write(self.path().join("manifest").join(name), checkpoint.encode()).unwrap();
    }

    /// What the checkpoint of the first version says.
    pub(crate) fn first_checkpoint(&self) -> Checkpoint {
        let path = self.path().join("manifest").join(delta_file(1));
        let delta = Delta::decode(&fs::read(path).unwrap(), 1).unwrap();
        Checkpoint { version: 1, parts: delta.add, boots: delta.boots, ..Checkpoint::default() }
    }

    pub(crate) fn manifest(&self, delta: &Delta) {
        let path = self.path().join(format!("manifest/{:020}.json", delta.version));
        fs::write(path, delta.encode()).unwrap();
    }

    fn part(&self, table: &str, partition_time: &str, batch: &RecordBatch) -> Part {
        let path = format!("accounting/{table}/date=2026-10-26/{:020}.parquet", self.version);
        let file = self.path().join(&path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let mut writer =
            ArrowWriter::try_new(File::create(&file).unwrap(), batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        let bytes = fs::read(&file).unwrap();
        let times = batch.column_by_name(partition_time).unwrap();
        let times = arrow::array::AsArray::as_primitive::<arrow::datatypes::TimestampMicrosecondType>(
            times,
        );
        Part {
            table: table.to_owned(),
            path,
            rows: batch.num_rows() as u64,
            bytes: bytes.len() as u64,
            min_time_us: times.values().iter().copied().min().unwrap(),
            max_time_us: times.values().iter().copied().max().unwrap(),
            sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// The file of the only part of a table.
    pub(crate) fn part_of(&self, table: &str) -> PathBuf {
        self.path().join(format!("accounting/{table}/date=2026-10-26/{:020}.parquet", 1))
    }

    /// Runs `analyze --data DIR arguments…`.
    pub(crate) fn analyze(&self, arguments: &[&str]) -> Run {
        analyze(self.path(), arguments)
    }

    /// Runs a command that must succeed; gives what it printed.
    pub(crate) fn answer(&self, arguments: &[&str]) -> String {
        let run = self.analyze(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.stderr);
        run.stdout
    }
}

pub(crate) fn analyze(data: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_analyze"));
    Run::from(output(command.arg("--data").arg(data).args(arguments)))
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
