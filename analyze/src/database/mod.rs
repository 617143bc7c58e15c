//! The embedded DuckDB with one view per table.
//!
//! Nothing is loaded from outside: extensions are neither installed nor loaded by themselves, and
//! once the views stand, files other than the parts are out of reach and the settings are locked.

mod rows;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use duckdb::{Config, Connection};
use schemas::table::{Column, ColumnType, TABLES, Table};
use sha2::{Digest as _, Sha256};

pub use self::rows::{Answer, Rows};
use self::rows::{Source, contained};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::network;
use crate::period::Period;
use crate::report::unit::counted;
use crate::sandbox;
use crate::scratch::Scratch;
use crate::sql;

/// Bytes of the hash of the data that are shown.
const DATA_HASH_BYTES: usize = 8;

/// A table that a question is about. DuckDB opens every part of a table that has a view, so there
/// are none but these.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The table.
    pub table: &'a str,
    /// Only the parts that may hold rows of this period, by the table's partition time.
    pub period: Option<&'a Period>,
}

impl<'a> Wanted<'a> {
    /// All rows of a table.
    pub fn all(table: &'a str) -> Self {
        Self { table, period: None }
    }

    /// At least the rows of a period.
    pub fn of(table: &'a str, period: &'a Period) -> Self {
        Self { table, period: Some(period) }
    }
}

/// An open database over one state of the tables.
pub struct Database {
    connection: Connection,
    /// Checksums of the parts that the views read.
    read: Vec<String>,
    // DuckDB spills here; the directory goes with the database, unless somebody else made it.
    _scratch: Option<Scratch>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    /// Opens views over every table of `dataset`.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open_all(dataset: &Dataset) -> Result<Self, Failure> {
        Self::open(dataset, &TABLES.map(|table| Wanted::all(table.name)))
    }

    /// Opens views over the tables that are wanted.
    ///
    /// # Errors
    /// 74 when a part is missing or its footer cannot be read, 70 when DuckDB does not start.
    pub fn open(dataset: &Dataset, wanted: &[Wanted<'_>]) -> Result<Self, Failure> {
        let scratch = Scratch::create()?;
        let mut database = Self::start()?;
        let mut paths = Vec::new();
        for table in TABLES {
            let Some(wanted) = wanted.iter().find(|wanted| wanted.table == table.name) else {
                continue;
            };
            let parts = locate(dataset, table, wanted.period)?;
            let (parts, sums): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            database.define(table, &parts)?;
            paths.extend(parts);
            database.read.extend(sums);
        }
        database.run("limit memory", &format!("SET memory_limit = '{}B'", most_memory()))?;
        database.run("lock the settings", &lock(&paths, scratch.path()))?;
        database._scratch = Some(scratch);
        Ok(database)
    }

    /// Opens a view over the named parts of each named table, spilling to a directory of the
    /// caller's and using so many bytes of memory.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open_parts(
        parts: &[(String, Vec<String>)],
        scratch: &Path,
        memory: u64,
    ) -> Result<Self, Failure> {
        let database = Self::start()?;
        for (name, parts) in parts {
            if let Some(table) = TABLES.iter().find(|table| table.name == name) {
                database.define(table, parts)?;
            }
        }
        let paths: Vec<String> = parts.iter().flat_map(|(_, parts)| parts.clone()).collect();
        database.run("limit memory", &format!("SET memory_limit = '{memory}B'"))?;
        database.run("lock the settings", &lock(&paths, scratch))?;
        Ok(database)
    }

    fn start() -> Result<Self, Failure> {
        let connection = connect().map_err(|error| {
            Failure::Internal(format!("cannot start the embedded DuckDB: {error}"))
        })?;
        Ok(Self { connection, read: Vec::new(), _scratch: None })
    }

    fn define(&self, table: &Table, parts: &[String]) -> Result<(), Failure> {
        self.run(&format!("define the view {}", table.name), &view(table, parts))
    }

    /// What ends the statement that runs, from another thread.
    pub fn interrupter(&self) -> impl Fn() + Send + 'static {
        let handle = self.connection.interrupt_handle();
        move || handle.interrupt()
    }

    /// Which data the views read, for the footer: a hash over the checksums of the parts, and the
    /// version of the manifest that names them.
    pub fn describe(&self, dataset: &Dataset) -> String {
        let mut sums = self.read.clone();
        sums.sort_unstable();
        let hash: String = Sha256::digest(sums.join("\n"))[..DATA_HASH_BYTES]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let parts = self.parts();
        format!("data {hash} ({parts}, version {} of the manifest)", dataset.version())
    }

    /// How many parts it reads, in words.
    pub fn parts(&self) -> String {
        counted(i128::try_from(self.read.len()).unwrap_or_default(), "part")
    }

    /// Runs statements of ours without a result.
    ///
    /// # Errors
    /// As [`Database::query`].
    pub fn run(&self, question: &str, statements: &str) -> Result<(), Failure> {
        let ran = catch_unwind(AssertUnwindSafe(|| self.connection.execute_batch(statements)));
        match ran {
            Ok(result) => result.map_err(|error| explain(question, &error)),
            Err(panic) => Err(contained(question, panic.as_ref())),
        }
    }

    /// Runs one statement and gives its rows as they are asked for, so that a long answer need not
    /// fit into memory. The next statement ends it.
    ///
    /// # Errors
    /// 74 when a part cannot be read, else 70 with the question that failed.
    pub fn stream(&self, question: &str, statement: &str) -> Result<Rows<'_>, Failure> {
        let executed = catch_unwind(AssertUnwindSafe(|| -> duckdb::Result<_> {
            let mut statement = self.connection.prepare(statement)?;
            let schema = statement.stream_arrow([])?.get_schema();
            Ok((schema, statement))
        }));
        match executed {
            Ok(Ok((schema, statement))) => {
                let source = Source::Running(Box::new(statement));
                Ok(Rows { schema, question: question.to_owned(), source })
            }
            Ok(Err(error)) => Err(explain(question, &error)),
            Err(panic) => Err(contained(question, panic.as_ref())),
        }
    }

    /// Runs one statement and gives all of its rows.
    ///
    /// # Errors
    /// As [`Database::stream`].
    pub fn query(&self, question: &str, statement: &str) -> Result<Answer, Failure> {
        let mut rows = self.stream(question, statement)?;
        let batches = rows.by_ref().collect::<Result<_, _>>()?;
        Ok(Answer { schema: rows.schema, batches })
    }

    /// What DuckDB's own parser says about a statement, as `json_serialize_sql` gives it.
    ///
    /// # Errors
    /// 70 when DuckDB cannot be asked.
    pub fn parse(&self, statement: &str) -> Result<String, Failure> {
        let question = "parse the statement";
        self.connection
            .query_row("SELECT json_serialize_sql(?::VARCHAR)::VARCHAR", [statement], |row| {
                row.get(0)
            })
            .map_err(|error| explain(question, &error))
    }
}

fn connect() -> duckdb::Result<Connection> {
    let config = Config::default().enable_autoload_extension(false)?;
    let connection = Connection::open_in_memory_with_flags(config)?;
    connection.register_scalar_function::<network::Network>(network::NAME)?;
    Ok(connection)
}

/// What DuckDB may use before it spills: what there is for a statement, and 3 GiB at most, so that the
/// program stays below 4.
fn most_memory() -> u64 {
    sandbox::default_memory().min(3 << 30)
}

/// The settings of a database that has seen all it needs. Text of the reader's own never runs
/// before this.
fn lock(paths: &[String], scratch: &Path) -> String {
    let paths = paths.iter().map(|path| sql::text(path)).collect::<Vec<_>>().join(", ");
    format!(
        "SET temp_directory = {};
         SET autoinstall_known_extensions = false;
         SET allow_community_extensions = false;
         SET allowed_paths = [{paths}];
         SET enable_external_access = false;
         SET lock_configuration = true;",
        sql::text(&scratch.to_string_lossy())
    )
}

/// The paths of the parts of a table that may hold rows of the period, each with its checksum.
///
/// # Errors
/// One of them is not there; asking again helps when the recorder has just moved it.
pub(crate) fn locate(
    dataset: &Dataset,
    table: &Table,
    period: Option<&Period>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut paths = Vec::new();
    for part in dataset.parts().iter().filter(|part| part.table == table.name) {
        if period.is_some_and(|period| !period.touches(part.min_time_us, part.max_time_us)) {
            continue;
        }
        let path = dataset.locate(part).ok_or_else(|| {
            Failure::Moved(format!(
                "the part {} is in the manifest but not on disk; `analyze verify` lists all such parts",
                dataset.root().join(&part.path).display()
            ))
        })?;
        paths.push((path.to_string_lossy().into_owned(), part.sha256.clone()));
    }
    Ok(paths)
}

/// A view with the columns of the table in order, and the text id where a row has a session. A
/// table without parts has the same columns and no rows.
fn view(table: &Table, parts: &[String]) -> String {
    let has_session = table.columns.iter().any(|column| column.name == "session_no");
    let session = if has_session { "boot || '-' || session_no AS session, " } else { "" };
    let columns = sql::names(table.columns.iter().map(|column| column.name));
    let source = if parts.is_empty() {
        let empty = |c: &Column| format!("NULL::{} AS {}", sql_type(c.kind), sql::name(c.name));
        let nulls = table.columns.iter().map(empty).collect::<Vec<_>>().join(", ");
        format!("(SELECT {nulls} WHERE false)")
    } else {
        let paths: Vec<String> = parts.iter().map(|part| sql::text(part)).collect();
        sql::read_parquet(&paths) + ")"
    };
    format!("CREATE VIEW {} AS SELECT {session}{columns} FROM {source}", sql::name(table.name))
}

/// The columns of a view with their types, in order.
pub(crate) fn columns(table: &Table) -> impl Iterator<Item = (&'static str, &'static str)> {
    let columns = table.columns;
    let has_session = columns.iter().any(|column| column.name == "session_no");
    let session = has_session.then_some(("session", "VARCHAR"));
    session.into_iter().chain(columns.iter().map(|column| (column.name, sql_type(column.kind))))
}

const fn sql_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Text | ColumnType::OptText | ColumnType::Word | ColumnType::OptWord => {
            "VARCHAR"
        }
        ColumnType::Time | ColumnType::OptTime => "TIMESTAMP",
        ColumnType::Int64 | ColumnType::OptInt64 => "BIGINT",
        ColumnType::Int32 | ColumnType::OptInt32 => "INTEGER",
        ColumnType::OptFloat64 => "DOUBLE",
        ColumnType::Bool => "BOOLEAN",
    }
}

/// What an error of DuckDB means: a part that went away, one that cannot be read, or our SQL.
fn explain(question: &str, error: &duckdb::Error) -> Failure {
    let cause = error.to_string();
    let text = format!("cannot {question}: {cause}");
    let of_a_file = cause.contains(".parquet");
    if denied(&cause).is_some_and(is_moved_part) {
        Failure::Moved(text)
    } else if cause.contains("disabled by configuration") {
        // Only a statement of the reader's own asks for more than the parts.
        Failure::Usage(format!("sql reads the tables and no other file: {cause}"))
    } else if of_a_file && (cause.contains("No files found") || cause.contains("Cannot open file"))
    {
        Failure::Moved(text)
    } else if of_a_file && cause.contains("Permission denied") {
        Failure::Permission(text)
    } else if of_a_file || cause.contains("corrupt") || cause.starts_with("IO Error") {
        Failure::Io(text)
    } else {
        Failure::Internal(text)
    }
}

/// The path that DuckDB may not look at.
fn denied(cause: &str) -> Option<&str> {
    let (_, path) = cause.split_once("Cannot access file \"")?;
    Some(path.split_once('"')?.0)
}

/// Whether a path that we do not allow leads to where a part was or is: parts are allowed by the
/// paths at which they were found. One that leads to nothing is taken for a directory to look into.
fn is_moved_part(path: &str) -> bool {
    let path = path.strip_suffix("/**/*.parquet").unwrap_or(path);
    path.contains("/accounting/") && path.ends_with(".parquet") && !path.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A locked database that may use so much memory.
    fn small(limit: &str) -> Database {
        let scratch = Scratch::create().unwrap();
        let mut database = Database::start().unwrap();
        database.run("limit memory", &format!("SET memory_limit = '{limit}'")).unwrap();
        database.run("lock", &lock(&[], scratch.path())).unwrap();
        database._scratch = Some(scratch);
        database
    }

    #[test]
    fn a_part_that_went_away_is_told_from_a_file_that_is_none_of_ours() {
        let asks = |path: &str| {
            let cause = format!(
                "Permission Error: Cannot access file \"{path}\" - file system operations are disabled by configuration"
            );
            denied(&cause).is_some_and(is_moved_part)
        };
        assert!(asks("/d/accounting/usage/date=2026-11-24/log-04.parquet/**/*.parquet"));
        assert!(asks("/d/replaced/accounting/usage/date=2026-11-24/log-04.parquet"));
        assert!(!asks("/d/accounting/usage/**/*.parquet"));
        assert!(!asks("/etc/passwd"));
    }

    #[test]
    fn what_does_not_fit_into_memory_goes_to_the_scratch_directory() {
        let database = small("40MB");
        let wide = "SELECT y FROM (SELECT repeat('y', 40) || hash(range) AS y FROM range(1500000)) ORDER BY y LIMIT 5 OFFSET 1400000";
        assert_eq!(database.query("sort", wide).unwrap().rows(), 5);
    }

    #[test]
    fn settings_are_locked() {
        let failure = small("40MB").run("loosen", "SET enable_external_access = true").unwrap_err();
        assert!(failure.to_string().contains("lock"), "{failure}");
    }

    #[test]
    fn an_error_in_mid_stream_is_an_error() {
        let database = small("200MB");
        let rows = database
            .stream(
                "divide",
                "SELECT CASE WHEN range < 2000000 THEN 1 ELSE error('late') END FROM range(4000000)",
            )
            .unwrap();
        let failure = rows.filter_map(Result::err).next().unwrap();
        assert!(failure.to_string().contains("cannot divide: "), "{failure}");
    }
}
