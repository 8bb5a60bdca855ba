//! `cargo bench -p e2e`: everything that is measured, as one table. See docs/performance.md.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use e2e::bench::arena::{Arena, raise_file_limit};
use e2e::bench::scale::Scale;
use e2e::bench::table::{self, Row};
use e2e::bench::{Options, guard, machine, requests, streams};
use e2e::{image, program};

const USAGE: &str = "cargo bench -p e2e -- [--profiled] [--only requests,streams,guard,scale] [--seconds N] \
                     [--rounds N] [--argocd-server PATH]";

struct Arguments {
    options: Options,
    profiled: bool,
    only: Option<Vec<String>>,
    argocd: Option<PathBuf>,
}

impl Arguments {
    fn read() -> Result<Self> {
        let options = Options { time: Duration::from_secs(4), rounds: 5 };
        let mut this = Self { options, profiled: false, only: None, argocd: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| anyhow::anyhow!("{word} needs a value: {USAGE}"));
            match word.as_str() {
                // What cargo says to every benchmark.
                "--bench" => {}
                "--profiled" => this.profiled = true,
                "--only" => this.only = Some(value()?.split(',').map(str::to_owned).collect()),
                "--argocd-server" => this.argocd = Some(PathBuf::from(value()?).canonicalize()?),
                "--seconds" => this.options.time = Duration::from_secs_f64(value()?.parse()?),
                "--rounds" => this.options.rounds = value()?.parse::<usize>()?.max(1),
                _ => bail!("{word} is not known: {USAGE}"),
            }
        }
        Ok(this)
    }

    fn wants(&self, section: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == section))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let options = &arguments.options;
    if arguments.profiled {
        program::set_binary(image::program(true)?);
    }
    let files = raise_file_limit()?;
    println!("{}\n\n{}", machine::describe()?, table::heading());
    let tell = |row: &Row| println!("{}", row.line());
    let arena = Arena::start().await?;
    if arguments.wants("requests") {
        let simple = requests::simple(options).await?;
        requests::throughput(&simple).iter().for_each(tell);
        tell(&requests::latency(&arena, &simple, options).await?);
        requests::large(&arena, options).await?.iter().for_each(tell);
    }
    if arguments.wants("streams") {
        streams::downloads(&arena, options).await?.iter().for_each(tell);
        tell(&streams::websockets(&arena, files).await?);
    }
    if arguments.wants("guard") {
        guard::run(&arena).await?.iter().for_each(tell);
    }
    if arguments.wants("scale") {
        Scale::start(&arena).await?.run(&arena, options, arguments.argocd.as_deref(), tell).await?;
    }
    Ok(())
}
