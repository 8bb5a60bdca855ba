//! A real Redis.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::{Process, free_port};
use crate::{tools, wait};

pub const PASSWORD: &str = "the-tests-redis-password";

/// Ended when dropped.
pub struct Redis {
    pub address: SocketAddr,
    folder: TempDir,
    options: Vec<String>,
    process: Process,
}

impl Redis {
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// With more options of `redis-server`.
    pub async fn start_with(options: &[&str]) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), options).await
    }

    /// On another address than the usual one.
    pub async fn start_at(ip: IpAddr, options: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let address = SocketAddr::from((ip, free_port()?));
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = launch(&folder, address, &options).await?;
        Ok(Self { address, folder, options, process })
    }

    /// A Sentinel that watches a Redis as the master `master`.
    pub async fn sentinel(master: &Redis) -> Result<Self> {
        let folder = TempDir::new()?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let configuration = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nrequirepass {PASSWORD}\nsentinel monitor master {} {} 1\nsentinel auth-pass master {PASSWORD}\n",
            address.port(),
            folder.path().display(),
            master.address.ip(),
            master.address.port()
        );
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, configuration)?;
        let mut command = Command::new(tools::system("redis-server")?);
        command.arg(&file).arg("--sentinel");
        let mut process = Process::start(&mut command, &folder.path().join("redis.log"))?;
        process.listening(address, Duration::from_secs(20)).await?;
        Ok(Self { address, folder, options: Vec::new(), process })
    }

    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    pub async fn restart(&mut self) -> Result<()> {
        self.process = launch(&self.folder, self.address, &self.options).await?;
        // It listens before it has loaded what it kept.
        wait::until("Redis answers", || async { Ok(self.command(&["PING"]).await.is_ok()) }).await.map(drop)
    }

    /// Revokes a token as Argo CD does: a key, and a message.
    pub async fn revoke(&self, id: &str) -> Result<()> {
        self.command(&["SET", &format!("revoked-token|{id}"), "x"]).await?;
        self.command(&["PUBLISH", "new-revoked-token", id]).await.map(drop)
    }

    pub async fn command(&self, words: &[&str]) -> Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        let encode = |words: &[&str]| {
            let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
            words
        };
        let login = format!("*2\r\n{}", encode(&["AUTH", PASSWORD]));
        let command = format!("{login}*{}\r\n{}", words.len(), encode(words));
        stream.write_all(command.as_bytes()).await?;
        let mut answer = Vec::new();
        while answer.iter().filter(|byte| **byte == b'\n').count() < 2 {
            ensure!(stream.read_buf(&mut answer).await? > 0, "Redis hung up");
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(!answer.lines().any(|line| line.starts_with('-')), "{answer}");
        Ok(answer)
    }
}

async fn launch(folder: &TempDir, address: SocketAddr, options: &[String]) -> Result<Process> {
    let mut command = Command::new(tools::system("redis-server")?);
    command
        .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args(["--requirepass", PASSWORD, "--save", "", "--appendonly", "yes", "--dir"])
        .arg(folder.path())
        .args(options);
    let mut process = Process::start(&mut command, &folder.path().join("redis.log"))?;
    process.listening(address, Duration::from_secs(20)).await?;
    Ok(process)
}
