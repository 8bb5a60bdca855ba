//! What a process and its children use of the machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// Of the kernel's clock ticks, which is what every Linux reports.
const TICK: Duration = Duration::from_millis(10);

/// A process with those that it started.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    process: u32,
}

impl Usage {
    pub fn of(process: u32) -> Self {
        Self { process }
    }

    /// Time on a processor so far, in user and kernel mode.
    pub fn cpu(&self) -> Result<Duration> {
        self.sum(|process| {
            let fields = stat(process)?;
            // utime and stime.
            let ticks: u32 =
                fields.get(11..13).context("a short stat")?.iter().filter_map(|f| f.parse::<u32>().ok()).sum();
            Ok(TICK * ticks)
        })
    }

    /// Bytes of memory that it holds now.
    pub fn resident(&self) -> Result<u64> {
        self.sum(|process| memory(process, "VmRSS:"))
    }

    /// The most that it ever held.
    pub fn peak(&self) -> Result<u64> {
        self.sum(|process| memory(process, "VmHWM:"))
    }

    fn sum<T: std::iter::Sum>(&self, measure: impl Fn(u32) -> Result<T>) -> Result<T> {
        family(self.process)?.into_iter().map(measure).sum()
    }
}

fn family(process: u32) -> Result<Vec<u32>> {
    let mut family = vec![process];
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has just ended is nobody's child.
        if let Some(parent) = stat(id).ok().and_then(|fields| fields.get(1)?.parse::<u32>().ok()) {
            parents.push((id, parent));
        }
    }
    let mut i = 0;
    while let Some(&member) = family.get(i) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(id, _)| *id));
        i += 1;
    }
    Ok(family)
}

/// Fields of `/proc/<pid>/stat` after the name, the state first.
fn stat(process: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"))?;
    let (_, fields) = text.rsplit_once(") ").context("no name in stat")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

fn memory(process: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}
