//! Which package may know which.

use std::collections::BTreeMap;
use std::process::Command;

use e2e_tests::process::output;
use serde_json::Value;

use crate::root;

/// Each package and those of ours that it may depend on.
const MAY_DEPEND_ON: [(&str, &[&str]); 8] = [
    ("schemas", &[]),
    ("journal", &["schemas"]),
    ("forwarder-core", &["schemas"]),
    ("forwarder-sys", &[]),
    ("forwarder", &["forwarder-core", "forwarder-sys", "schemas", "journal"]),
    ("recorder", &["schemas", "journal"]),
    ("analyze", &["schemas"]),
    (
        "e2e-tests",
        &[
            "schemas",
            "journal",
            "forwarder-core",
            "forwarder-sys",
            "forwarder",
            "recorder",
            "analyze",
        ],
    ),
];

/// What each package depends on, tests apart.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = output(cargo.current_dir(root()));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().expect("there are packages");
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().expect("an array, if empty");
        all.iter().filter(|one| one["kind"] != "dev").map(|one| text(&one["name"])).collect()
    };
    packages.iter().map(|package| (text(&package["name"]), of(package))).collect()
}

#[test]
fn dependencies_point_one_way() {
    let found = dependencies();
    let ours: Vec<&str> = MAY_DEPEND_ON.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        found.len(),
        ours.len(),
        "a package is missing in the table above: {:?}",
        found.keys()
    );
    for (package, allowed) in MAY_DEPEND_ON {
        for dependency in &found[package] {
            assert!(
                !ours.contains(&dependency.as_str()) || allowed.contains(&dependency.as_str()),
                "{package} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn the_core_has_no_runtime_no_sockets_and_no_dice() {
    let banned =
        ["tokio", "tokio-util", "rustix", "socket2", "libc", "rand", "getrandom", "anyhow"];
    let core = &dependencies()["forwarder-core"];
    let found: Vec<&String> = core.iter().filter(|name| banned.contains(&name.as_str())).collect();
    assert!(found.is_empty(), "forwarder-core decides without I/O, but depends on {found:?}");
}

#[test]
fn analyze_alone_links_duckdb() {
    for (package, dependencies) in dependencies() {
        let links = dependencies.iter().any(|name| name == "duckdb");
        assert_eq!(links, package == "analyze", "{package}");
    }
}
