//! What the numbers were measured on and with.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::Result;

use crate::{program, tools};

/// In one line.
pub fn describe() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let haproxy = first_line(&tools::system("haproxy")?, "-v");
    let nginx = first_line(&tools::system_program("nginx", "nginx-light")?, "-v");
    Ok(format!(
        "{} × {}, Linux {}; {}; {}; {}",
        available_parallelism()?,
        model.map_or("unknown processor", |(_, model)| model),
        kernel.trim(),
        first_line(program::binary()?, "--version"),
        haproxy.split(" - ").next().unwrap_or_default(),
        nginx,
    ))
}

fn first_line(program: &Path, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}
