//! Tells the linker where the prebuilt DuckDB library lies, and the binary where to find it later:
//! beside itself, in `../lib/weir`, or in the build tree.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=DUCKDB_LIB_DIR");
    if env::var_os("CARGO_FEATURE_BUNDLED").is_some() {
        return;
    }
    let macos = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos");
    let (file, origin) =
        if macos { ("libduckdb.dylib", "@executable_path") } else { ("libduckdb.so", "$ORIGIN") };
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let dir = env::var_os("DUCKDB_LIB_DIR")
        .map_or_else(|| package.join("../target/duckdb"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", dir.join(file).display());
    let Ok(library) = dir.join(file).canonicalize() else {
        println!("cargo::error=the DuckDB library is not there yet: {}", dir.join(file).display());
        println!("cargo::error=run `make duckdb` once (24 MB), or build with `--features bundled`");
        return;
    };
    let dir = library.parent().expect("a file has a directory").display().to_string();
    println!("cargo::rustc-link-search=native={dir}");
    for rpath in [origin.to_owned(), format!("{origin}/../lib/weir"), dir] {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{rpath}");
    }
}
