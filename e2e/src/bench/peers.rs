//! What the program is compared with, and the backend behind all of them: HAProxy and nginx, one thread each.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::tools;
use crate::usage::Usage;

const PATIENCE: Duration = Duration::from_secs(10);
/// The extension for requests.
pub const EXTENSION: &str = "bench";
/// Idle connections to the backend that each may keep; HAProxy keeps as many as it has.
pub const KEPT: usize = 256;
/// Extensions for WebSockets: several, since one alone may not take all the files that the process may open.
pub const SOCKETS: [&str; 4] = ["sockets-0", "sockets-1", "sockets-2", "sockets-3"];
/// Answers that the backend serves out of files, besides the small one at every other path.
pub const FILES: [(&str, usize); 2] = [("1MB", 1 << 20), ("100MB", 100 << 20)];

/// A program that requests are sent through.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub name: &'static str,
    pub address: SocketAddr,
    /// Where WebSockets are opened.
    pub sockets: SocketAddr,
    pub usage: Usage,
}

/// nginx or HAProxy. Ended when dropped.
pub struct Peer {
    pub candidate: Candidate,
    _process: Process,
    _folder: TempDir,
}

impl Peer {
    /// An nginx that answers by itself.
    pub async fn backend() -> Result<Self> {
        let files: String = FILES
            .iter()
            .map(|(name, _)| format!("location = /{name} {{ root FOLDER; default_type application/octet-stream; }}\n"))
            .collect();
        let body = format!(r#"{{"ok":true,"pad":"{}"}}"#, "0123456789".repeat(7));
        let server = format!("{files}location / {{ default_type application/json; return 200 '{body}'; }}");
        let peer = Self::nginx("backend", "", &server).await?;
        for (name, size) in FILES {
            fs::write(peer._folder.path().join(name), vec![b'x'; size])?;
        }
        Ok(peer)
    }

    /// An nginx that passes requests on, with the header work that an extension's request needs.
    pub async fn nginx_proxy(backend: SocketAddr) -> Result<Self> {
        let upstream =
            format!("upstream small {{ server {backend}; keepalive {KEPT}; keepalive_requests 1000000000; }}\n");
        let server = format!(
            "location /extensions/{EXTENSION}/ {{ proxy_http_version 1.1; proxy_set_header Connection \"\"; \
             proxy_set_header Cookie \"\"; proxy_set_header Authorization \"\"; \
             proxy_set_header Argocd-Username alice; proxy_set_header Argocd-Namespace argocd; \
             proxy_set_header X-Forwarded-For $remote_addr; proxy_pass http://small/; }}"
        );
        Self::nginx("nginx", &upstream, &server).await
    }

    async fn nginx(name: &'static str, http: &str, server: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let path = folder.path().display();
        let configuration = format!(
            "master_process off; daemon off; pid {path}/pid; error_log {path}/log;\n\
             events {{ worker_connections 20000; }}\n\
             http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; sendfile on;\n\
             proxy_read_timeout 3600s; proxy_temp_path {path}/p; client_body_temp_path {path}/b; \
             fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
             {http} server {{ listen {address} backlog=4096;\n{server} }} }}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration.replace("FOLDER", &path.to_string()))?;
        let mut command = Command::new(tools::system_program("nginx", "nginx-light")?);
        command.arg("-c").arg(&file).arg("-e").arg(folder.path().join("log"));
        Self::start(name, address, folder, &mut command).await
    }

    /// A HAProxy that does the same. WebSockets have an address of their own, so that requests cost no choice.
    pub async fn haproxy(backend: SocketAddr, websockets: SocketAddr) -> Result<Self> {
        let folder = TempDir::new()?;
        let [address, sockets] = [free_port()?, free_port()?].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let frontend = |name: &str, address: SocketAddr| {
            format!(
                "frontend {name}\n  bind {address}\n  http-request del-header Cookie\n  http-request del-header Authorization\n\
                 \x20 http-request set-header Argocd-Username alice\n  http-request set-header Argocd-Namespace argocd\n\
                 \x20 http-request set-header X-Forwarded-For %[src]\n\
                 \x20 http-request replace-path /extensions/[^/]*/(.*) /\\1\n  default_backend to-{name}\n"
            )
        };
        let configuration = format!(
            "global\n  nbthread 1\n  maxconn 9900\n\
             defaults\n  mode http\n  timeout connect 2s\n  timeout client 3600s\n  timeout server 3600s\n  timeout tunnel 3600s\n  http-reuse always\n\
             {}{}backend to-requests\n  server s {backend}\nbackend to-sockets\n  server s {websockets}\n",
            frontend("requests", address),
            frontend("sockets", sockets),
        );
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, configuration)?;
        let mut command = Command::new(tools::system("haproxy")?);
        command.arg("-db").arg("-f").arg(&file);
        let mut haproxy = Self::start("HAProxy", address, folder, &mut command).await?;
        haproxy.candidate.sockets = sockets;
        Ok(haproxy)
    }

    async fn start(name: &'static str, address: SocketAddr, folder: TempDir, command: &mut Command) -> Result<Self> {
        let mut process = Process::start(command, &folder.path().join("output"))?;
        process.listening(address, PATIENCE).await.with_context(|| format!("starting {name}"))?;
        let candidate = Candidate { name, address, sockets: address, usage: Usage::of(process.id()) };
        Ok(Self { candidate, _process: process, _folder: folder })
    }
}
