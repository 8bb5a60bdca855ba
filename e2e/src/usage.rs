//! What a process and its children use of the machine.

use std::fs;
use std::path::{Path, PathBuf};
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
        self.sum(|process| Ok(Stat::read(&folder(process))?.cpu()))
    }

    /// The same of those of its threads whose names begin so.
    pub fn cpu_of_threads(&self, name: &str) -> Result<Duration> {
        let mut cpu = Duration::ZERO;
        for thread in self.threads()? {
            // One that has just ended is none.
            if let Some(stat) = Stat::read(&thread).ok().filter(|stat| stat.name.starts_with(name)) {
                cpu += stat.cpu();
            }
        }
        Ok(cpu)
    }

    /// Where the kernel tells of each of its threads; the last part of it is the thread's number.
    pub fn threads(&self) -> Result<Vec<PathBuf>> {
        fs::read_dir(folder(self.process).join("task"))?.map(|thread| Ok(thread?.path())).collect()
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

/// Where the kernel tells of a process.
fn folder(process: u32) -> PathBuf {
    Path::new("/proc").join(process.to_string())
}

fn family(process: u32) -> Result<Vec<u32>> {
    let mut family = vec![process];
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has just ended is nobody's child.
        if let Ok(stat) = Stat::read(&folder(id)) {
            parents.push((id, stat.parent));
        }
    }
    let mut i = 0;
    while let Some(&member) = family.get(i) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(id, _)| *id));
        i += 1;
    }
    Ok(family)
}

/// What the `stat` of a process or a thread says.
struct Stat {
    name: String,
    parent: u32,
    ticks: u32,
}

impl Stat {
    fn read(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string(folder.join("stat"))?;
        let (start, fields) = text.rsplit_once(") ").context("no name in stat")?;
        let (_, name) = start.split_once('(').context("no name in stat")?;
        // The state first.
        let fields: Vec<&str> = fields.split(' ').collect();
        let number = |at: usize| anyhow::Ok(fields.get(at).context("a short stat")?.parse::<u32>()?);
        // utime and stime.
        Ok(Self { name: name.to_owned(), parent: number(1)?, ticks: number(11)? + number(12)? })
    }

    fn cpu(&self) -> Duration {
        TICK * self.ticks
    }
}

fn memory(process: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(folder(process).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}
