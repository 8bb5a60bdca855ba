//! Which commit the program is built from, for `--version`: of the clone, else `SOURCE_COMMIT`, else none.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=../.git/HEAD");
    println!("cargo:rerun-if-changed=../.git/refs");
    println!("cargo:rerun-if-env-changed=SOURCE_COMMIT");
    let version = env!("CARGO_PKG_VERSION");
    let version = match commit() {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    };
    println!("cargo:rustc-env=VERSION={version}");
}

fn commit() -> Option<String> {
    let asked = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok();
    let said = asked.filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    said.or_else(|| std::env::var("SOURCE_COMMIT").ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}
