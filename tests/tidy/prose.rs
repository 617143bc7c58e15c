//! What the README promises about the repository exists.

use crate::{read, root};

/// The targets of all Markdown links in a text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn every_link_leads_somewhere() {
    let pages = ["README.md", "CHANGELOG.md", "docs/README.md", "docs/configuration.md"];
    for page in pages.into_iter().chain([
        "docs/tables.md",
        "docs/analyze.md",
        "docs/recorder.md",
        "docs/logging.md",
        "docs/tariffs.md",
    ]) {
        let page = root().join(page);
        for link in links(&read(&page)) {
            let path = link.split('#').next().unwrap_or_default();
            let outside = link.contains("://") || path.is_empty();
            let there = outside || page.with_file_name(path).exists();
            assert!(there, "{} links to {link}, which is not there", page.display());
        }
    }
}

#[test]
fn the_code_map_names_every_package() {
    let readme = read(&root().join("README.md"));
    for package in [
        "schemas",
        "schemas/journal",
        "forwarder/core",
        "forwarder/sys",
        "forwarder",
        "recorder",
        "analyze",
        "tests",
    ] {
        assert!(
            readme.contains(&format!("| `{package}` |")),
            "README.md's code map lacks {package}"
        );
    }
}

#[test]
fn every_make_target_that_the_readme_names_exists() {
    let makefile = read(&root().join("Makefile"));
    let readme = read(&root().join("README.md"));
    for rest in readme.split("make ").skip(1) {
        let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase()).collect();
        let code = rest.chars().nth(target.len()).is_some_and(|c| "`\n ".contains(c));
        if code && readme.contains(&format!("`make {target}")) {
            assert!(makefile.contains(&format!("\n{target}:")), "there is no make {target}");
        }
    }
}
