//! The program and its peers side by side, in front of one backend.

use anyhow::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::backend::Backend;
use crate::program::Program;
use crate::world::World;

use super::generator::{Requests, same};
use super::large;
use super::peers::{Candidate, EXTENSION, KEPT, Peer, SOCKETS};

/// Applications of the large world.
pub const APPLICATIONS: usize = 5_000;
/// Files that one process of the bench needs at most.
const FILES: u64 = 50_000;

/// Ends with all its parts when dropped.
pub struct Arena {
    pub world: World,
    pub ours: Candidate,
    pub haproxy: Peer,
    pub nginx: Peer,
    pub backend: Peer,
    /// Behind WebSockets: one for each, so that the system's ports suffice.
    pub sockets: Backend,
    _haproxy_sockets: Backend,
    _program: Program,
}

impl Arena {
    pub async fn start() -> Result<Self> {
        let (backend, sockets) = (Peer::backend().await?, Backend::start("sockets").await?);
        let haproxy_sockets = Backend::start("sockets").await?;
        let haproxy = Peer::haproxy(backend.candidate.address, haproxy_sockets.address).await?;
        let nginx = Peer::nginx_proxy(backend.candidate.address).await?;
        let world = world(&backend, &sockets).await?;
        let program = serve(&world)?;
        let ours = candidate(&program);
        Ok(Self { world, ours, haproxy, nginx, backend, sockets, _haproxy_sockets: haproxy_sockets, _program: program })
    }

    /// The program, HAProxy and nginx.
    pub fn candidates(&self) -> [&Candidate; 3] {
        [&self.ours, &self.haproxy.candidate, &self.nginx.candidate]
    }
}

/// The conformance world with an extension in front of the backend.
pub async fn world(backend: &Peer, sockets: &Backend) -> Result<World> {
    let world = World::start().await?;
    // In `argocd-cm`, so that an argocd-server knows it as well.
    let place = "  extension.config.solo: |\n";
    let entry = format!(
        "  extension.config.{EXTENSION}: |\n    maxIdleConnections: {KEPT}\n    services:\n    - url: http://{}\n{place}",
        backend.candidate.address
    );
    world.edit("10-config.yaml", |text| text.replace(place, &entry))?;
    for name in SOCKETS {
        world.write_extension(name, &sockets.url(), "")?;
    }
    Ok(world)
}

/// The same with many applications, projects and policy lines.
pub async fn large_world(backend: &Peer, sockets: &Backend, applications: usize) -> Result<World> {
    let world = world(backend, sockets).await?;
    large::extend(&world, applications)?;
    Ok(world)
}

/// With one thread for requests, as its peers have.
pub fn serve(world: &World) -> Result<Program> {
    world.serve(&["--workers", "1"])
}

pub fn candidate(program: &Program) -> Candidate {
    Candidate { name: "ours", address: program.address, sockets: program.address, usage: program.usage() }
}

/// A request of alice for the application `guestbook`.
pub fn simple(path: &str, token: &str) -> Requests {
    same(request(path, token, "argocd:guestbook", "default"))
}

pub fn request(path: &str, token: &str, application: &str, project: &str) -> String {
    format!(
        "GET /extensions/{EXTENSION}/{path} HTTP/1.1\r\nHost: argocd.example.com\r\nCookie: argocd.token={token}\r\n\
         Argocd-Application-Name: {application}\r\nArgocd-Project-Name: {project}\r\n\r\n"
    )
}

/// Lets this process and those that it starts have as many files open as the system permits. How many that are.
pub fn raise_file_limit() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let files = limit.maximum.unwrap_or(FILES).min(FILES);
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: limit.maximum })?;
    Ok(files)
}
