//! What a table and a column are, and the macro that declares them.

use std::fmt;

/// How a column is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8, many different values.
    Text,
    /// UTF-8, many different values or NULL.
    OptText,
    /// UTF-8 from a small set; dictionary encoded.
    Word,
    /// UTF-8 from a small set or NULL; dictionary encoded.
    OptWord,
    /// Timestamp in microseconds, UTC, without zone.
    Time,
    /// Timestamp or NULL.
    OptTime,
    /// 64-bit signed.
    Int64,
    /// 64-bit signed or NULL.
    OptInt64,
    /// 32-bit signed.
    Int32,
    /// 32-bit signed or NULL.
    OptInt32,
    /// IEEE 754 double or NULL.
    OptFloat64,
    /// True or false.
    Bool,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ColumnType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Text | Self::OptText => "utf8",
            Self::Word | Self::OptWord => "dictionary(int32, utf8)",
            Self::Time | Self::OptTime => "timestamp(us)",
            Self::Int64 | Self::OptInt64 => "int64",
            Self::Int32 | Self::OptInt32 => "int32",
            Self::OptFloat64 => "float64",
            Self::Bool => "boolean",
        }
    }
}

/// One column and its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The name in Parquet, SQL, CSV and JSON.
    pub name: &'static str,
    /// How it is stored.
    pub kind: ColumnType,
    /// `bytes`, `us`, `s`…; empty where the type says it all.
    pub unit: &'static str,
    /// What a value means, and what NULL means where it may be.
    pub doc: &'static str,
}

impl Column {
    /// Whether the column may be NULL.
    pub const fn nullable(&self) -> bool {
        matches!(
            self.kind,
            ColumnType::OptText
                | ColumnType::OptWord
                | ColumnType::OptTime
                | ColumnType::OptInt64
                | ColumnType::OptInt32
                | ColumnType::OptFloat64
        )
    }
}

/// One table.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The name in paths and SQL.
    pub name: &'static str,
    /// What a row is.
    pub doc: &'static str,
    /// The column whose UTC day is the `date=` partition.
    pub partition_time: &'static str,
    /// The columns in order.
    pub columns: &'static [Column],
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}", self.name, self.doc)?;
        writeln!(f, "partition: date= the UTC day of {}\n", self.partition_time)?;
        for column in self.columns {
            let null = if column.nullable() { " null" } else { "" };
            let unit =
                if column.unit.is_empty() { String::new() } else { format!(" [{}]", column.unit) };
            writeln!(f, "{}: {}{null}{unit}\n   {}", column.name, column.kind, column.doc)?;
        }
        Ok(())
    }
}

/// Declares a table: its row type (which is the wire message), its view, its columns, and with the
/// `arrow` feature the conversion to a record batch. A column reads
/// `/// meaning` `NUMBER name: Type ["unit"],` with the protobuf field number first.
macro_rules! table {
    (
        $(#[doc = $doc:literal])+
        $row:ident $name:literal by $time:ident
        { $($columns:tt)+ }
    ) => {
        $crate::table::column::row!([$(#[doc = $doc])+] $row {} $($columns)+);
        $crate::table::column::describe!([$($doc)+] $row $name $time $($columns)+);
        $crate::table::view::view!($row $($columns)+);
        #[cfg(feature = "arrow")]
        $crate::table::batch::batch!($row $($columns)+);
    };
}

/// The row struct, one column at a time, because an attribute of a derive must be literal tokens.
macro_rules! row {
    ([$($meta:tt)+] $row:ident { $($done:tt)* }) => {
        $($meta)+
        #[derive(Clone, PartialEq, ::prost::Message)]
        pub struct $row { $($done)* }
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: Text $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(string, tag = $tag)] pub $name: String, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: OptText $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(string, optional, tag = $tag)] pub $name: Option<String>, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: Word $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(string, tag = $tag)] pub $name: String, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: OptWord $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(string, optional, tag = $tag)] pub $name: Option<String>, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: Time $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(int64, tag = $tag)] pub $name: i64, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: OptTime $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(int64, optional, tag = $tag)] pub $name: Option<i64>, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: Int64 $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(int64, tag = $tag)] pub $name: i64, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: OptInt64 $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(int64, optional, tag = $tag)] pub $name: Option<i64>, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: Int32 $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(int32, tag = $tag)] pub $name: i32, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: OptInt32 $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(int32, optional, tag = $tag)] pub $name: Option<i32>, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: OptFloat64 $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(double, optional, tag = $tag)] pub $name: Option<f64>, } $($rest)*);
    };
    ($m:tt $row:ident { $($d:tt)* } $(#[$doc:meta])+ $tag:literal $name:ident: Bool $([$u:literal])?, $($rest:tt)*) => {
        $crate::table::column::row!($m $row { $($d)* $(#[$doc])+ #[prost(bool, tag = $tag)] pub $name: bool, } $($rest)*);
    };
}

/// The table's description.
macro_rules! describe {
    ([$($doc:literal)+] $row:ident $table:literal $time:ident
     $($(#[doc = $column_doc:literal])+ $tag:literal $name:ident: $kind:ident $([$unit:literal])?,)+) => {
        pub(crate) static TABLE: $crate::table::Table = $crate::table::Table {
            name: $table,
            doc: concat!($($doc),+),
            partition_time: stringify!($time),
            columns: &[$($crate::table::Column {
                name: stringify!($name),
                kind: $crate::table::ColumnType::$kind,
                unit: concat!($($unit)?),
                doc: concat!($($column_doc),+).trim_ascii_start(),
            },)+],
        };

        impl $row {
            /// The table this is a row of.
            pub const TABLE: &'static $crate::table::Table = &TABLE;
        }
    };
}

pub(super) use {describe, row, table};
