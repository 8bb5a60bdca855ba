//! A test in namespaces of its own: network, mounts, processes. Whatever it starts ends with it, and the machine's own
//! network is never touched.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

const ENTERED: &str = "E2E_IN_NAMESPACES";

/// Runs the test of this name again, inside; `Ok(true)` where that is where it runs already. Nothing can be downloaded
/// there: `prepare` does that first, and what it returns is the inner one's environment.
pub fn enter(test: &str, prepare: impl FnOnce() -> Result<Vec<(&'static str, String)>>) -> Result<bool> {
    if std::env::var_os(ENTERED).is_some() {
        return Ok(true);
    }
    if let Err(error) = possible() {
        let message = format!(
            "{test} needs root and namespaces of its own, which are not to be had here ({error:#}): NOT run. \
             What the chart makes was started as a process against the API server alone (tests of `install`).\n"
        );
        std::io::stderr().write_all(message.as_bytes())?;
        return Ok(false);
    }
    let environment = prepare()?;
    let before = groups();
    let status = unshare()
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(ENTERED, "1")
        .envs(environment)
        .status();
    // Processes are gone; the groups that they were in are not.
    let mut left: Vec<PathBuf> = groups().into_iter().filter(|group| !before.contains(group)).collect();
    left.sort_by_key(|group| std::cmp::Reverse(group.components().count()));
    for group in left {
        let _ = std::fs::remove_dir(group);
    }
    let status = status.context("starting unshare")?;
    ensure!(status.success(), "{test} failed in its namespaces: {status}");
    Ok(false)
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "--propagation",
        "private",
        "--",
    ]);
    command
}

fn possible() -> Result<()> {
    let output = unshare().arg("true").output().context("unshare is missing")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Control groups to a depth of three, in which containers are.
fn groups() -> Vec<PathBuf> {
    let below = |folder: &PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
    };
    let mut all = Vec::new();
    let mut level = vec![PathBuf::from("/sys/fs/cgroup")];
    for _ in 0..4 {
        level = level.iter().flat_map(below).collect();
        all.extend(level.clone());
    }
    all
}
