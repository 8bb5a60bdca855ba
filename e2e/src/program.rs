//! The real binary as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Request, send};
use crate::usage::Usage;

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Killed when dropped.
pub struct Program {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    output: Arc<Mutex<String>>,
    log: Arc<Mutex<String>>,
}

/// All reconciles so far.
pub struct Reconciles {
    pub count: f64,
    /// By the clock.
    pub took: Duration,
    /// Of a processor.
    pub cpu: Duration,
}

impl Program {
    /// Starts it and waits until it says where it listens.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_with(arguments, &[])
    }

    /// The same with environment variables.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        Self::start_command(Command::new(binary()?).args(arguments), environment)
    }

    /// The same as a process that may have so many files open.
    pub fn start_with_files(arguments: &[&str], files: usize) -> Result<Self> {
        let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        Self::start_command(Command::new("sh").args(["-c", &script]).arg(binary()?).args(arguments), &[])
    }

    fn start_command(command: &mut Command, environment: &[(&str, &str)]) -> Result<Self> {
        let mut child = command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting the program")?;
        let (lines, said) = channel();
        let output = collect(child.stdout.take(), Some(lines));
        let log = collect(child.stderr.take(), None);
        match addresses(&said) {
            Ok((address, admin)) => Ok(Self { address, admin, child, output, log }),
            Err(error) => {
                let _ = child.kill();
                let status = child.wait()?;
                bail!("the program did not start ({error}, {status}):\n{}{}", text(&output), text(&log));
            }
        }
    }

    /// Runs it to its end: how it ended, its output and its log.
    pub fn run(arguments: &[&str]) -> Result<(ExitStatus, String, String)> {
        let output = Command::new(binary()?).args(arguments).stdin(Stdio::null()).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status, text(&output.stdout), text(&output.stderr)))
    }

    pub fn output(&self) -> String {
        text(&self.output)
    }

    pub fn log(&self) -> String {
        text(&self.log)
    }

    /// Waits until the log holds a text.
    pub async fn wait_for_log(&self, wanted: &str) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.log().contains(wanted) {
            ensure!(Instant::now() < deadline, "the log never said {wanted:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub async fn reconciles(&self) -> Result<Reconciles> {
        let text = send(self.admin, Request::get("/metrics")).await?.text();
        let metric = |name: &str| {
            let name = format!("argocd_extension_proxy_reconcile_{name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name)).context("no such metric")?;
            anyhow::Ok(line.trim().parse::<f64>()?)
        };
        Ok(Reconciles {
            count: metric("duration_seconds_count")?,
            took: Duration::from_secs_f64(metric("duration_seconds_sum")?),
            cpu: Duration::from_secs_f64(metric("cpu_seconds_total")?),
        })
    }

    pub fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Stands still, as on a machine that is out of breath.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = Pid::from_raw(i32::try_from(self.child.id())?).context("no process id")?;
        Ok(kill_process(id, signal)?)
    }

    /// Waits for its end.
    pub async fn ended(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "still running:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that counts how often what is run (operator/image/build --profiled) writes that down when it ends.
        if std::env::var_os("LLVM_PROFILE_FILE").is_some() && self.terminate().is_ok() {
            let deadline = Instant::now() + START_TIMEOUT;
            while Instant::now() < deadline && self.child.try_wait().is_ok_and(|status| status.is_none()) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}{}", self.output(), self.log());
        }
    }
}

fn text(shared: &Mutex<String>) -> String {
    shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn collect(stream: Option<impl Read + Send + 'static>, lines: Option<Sender<String>>) -> Arc<Mutex<String>> {
    let collected = Arc::new(Mutex::new(String::new()));
    let shared = collected.clone();
    if let Some(stream) = stream {
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(std::io::Result::ok) {
                let mut collected = shared.lock().unwrap_or_else(PoisonError::into_inner);
                collected.push_str(&line);
                collected.push('\n');
                if let Some(lines) = &lines {
                    let _ = lines.send(line);
                }
            }
        });
    }
    collected
}

fn addresses(said: &Receiver<String>) -> Result<(SocketAddr, SocketAddr)> {
    let deadline = Instant::now() + START_TIMEOUT;
    let find = |label: &str| -> Result<SocketAddr> {
        loop {
            let line = said.recv_timeout(deadline.saturating_duration_since(Instant::now()))?;
            if let Some(rest) = line.strip_prefix(label) {
                let (_, url) = rest.trim().split_once("://").context("no URL")?;
                return Ok(url.split(['/', ' ']).next().unwrap_or_default().parse()?);
            }
        }
    };
    Ok((find("Extensions")?, find("Admin")?))
}

static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// Takes this binary for all that this process starts, where it has started none yet.
pub fn set_binary(path: PathBuf) {
    let _ = BINARY.set(Ok(path));
}

/// The binary of the same build profile as the tests, built if need be; `ARGOCD_EXTENSION_PROXY_BIN` names another.
pub fn binary() -> Result<&'static Path> {
    let built = BINARY.get_or_init(|| match std::env::var_os("ARGOCD_EXTENSION_PROXY_BIN") {
        Some(path) => Ok(path.into()),
        None => build().map_err(|error| format!("{error:#}")),
    });
    built.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    // target/<profile>/deps/<this test>
    let this = std::env::current_exe()?;
    let folder = this.ancestors().nth(2).context("the test lies outside of a target folder")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => bail!("the target folder has no name"),
    };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    // The whole workspace: what cargo compiled for the tests then counts, feature by feature.
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--workspace", "--bins", "--profile", profile, "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(folder.parent().context("no target folder")?)
        .status()
        .context("running cargo to build the program")?;
    ensure!(built.success(), "cargo could not build the program");
    Ok(folder.join("argocd-extension-proxy"))
}
