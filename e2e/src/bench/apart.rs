//! Candidates on one processor, and whoever asks and answers on the others. Where the scheduler puts threads that wait
//! for each other would else be in every number: on one processor, on two, or on another one each time.

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::peers::Candidate;
use crate::usage::Usage;

/// Until it is dropped.
pub struct Apart {
    all: CpuSet,
    processes: Vec<Usage>,
}

impl Apart {
    /// The candidates are measured in turn, so that each has the processor for itself. The load is this process.
    pub fn keep(candidates: &[&Candidate], backend: &Candidate) -> Result<Self> {
        let all = sched_getaffinity(None)?;
        let (own, others) = split(&all);
        let mut this = Self { all, processes: Vec::new() };
        for candidate in candidates {
            this.put(candidate.usage, &own)?;
        }
        this.put(backend.usage, &others)?;
        this.put(Usage::of(std::process::id()), &others)?;
        Ok(this)
    }

    fn put(&mut self, process: Usage, processors: &CpuSet) -> Result<()> {
        self.processes.push(process);
        put(process, processors)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        for process in &self.processes {
            // One that has ended needs none.
            let _ = put(*process, &self.all);
        }
    }
}

/// All threads of a process; those that they start later go where they are.
fn put(process: Usage, processors: &CpuSet) -> Result<()> {
    for thread in process.threads()? {
        let number = thread.file_name().and_then(|name| name.to_str()).context("a thread has no number")?.parse()?;
        match sched_setaffinity(Pid::from_raw(number), processors) {
            // One that has just ended is none.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The first processor, and the others; where there is only one, all have it.
fn split(all: &CpuSet) -> (CpuSet, CpuSet) {
    let (mut own, mut others) = (CpuSet::new(), *all);
    if let Some(first) = (0..CpuSet::MAX_CPU).find(|processor| all.is_set(*processor)) {
        own.set(first);
        if all.count() > 1 {
            others.unset(first);
        }
    }
    (own, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;
    use std::net::SocketAddr;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn a_candidate_and_whoever_asks_it_share_no_processor() {
        let sleeper = Process::start(Command::new("sleep").arg("60"), Path::new("/dev/null")).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let process = |id| Candidate { name: "sleeper", address, sockets: address, usage: Usage::of(id) };
        let processors = |id: u32| sched_getaffinity(Pid::from_raw(i32::try_from(id).unwrap())).unwrap();
        let all = sched_getaffinity(None).unwrap();
        let (candidate, backend) = (process(sleeper.id()), process(std::process::id()));
        let apart = Apart::keep(&[&candidate], &backend).unwrap();
        let (own, others) = (processors(sleeper.id()), processors(std::process::id()));
        assert_eq!(own.count(), 1);
        assert!(all.count() == 1 || (0..CpuSet::MAX_CPU).all(|i| all.is_set(i) == (own.is_set(i) != others.is_set(i))));
        drop(apart);
        assert_eq!([processors(sleeper.id()), processors(std::process::id())], [all, all]);
    }
}
