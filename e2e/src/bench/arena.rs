//! The program and its peers side by side, in front of one backend.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::backend::Backend;
use crate::program::Program;
use crate::world::World;

use super::generator::{Requests, same};
use super::large;
use super::peers::{Candidate, EXTENSION, Peer, SOCKETS};

/// Applications of the large world.
pub const APPLICATIONS: usize = 5_000;
/// Files that one process of the bench may need.
const FILES: u64 = 50_000;

/// Ends with all its parts when dropped.
pub struct Arena {
    pub world: World,
    pub ours: Candidate,
    pub haproxy: Peer,
    pub nginx: Peer,
    pub backend: Peer,
    pub sockets: Backend,
    program: Program,
}

impl Arena {
    pub async fn start() -> Result<Self> {
        let (backend, sockets) = (Peer::backend().await?, Backend::start("sockets").await?);
        let haproxy = Peer::haproxy(backend.candidate.address, sockets.address).await?;
        let nginx = Peer::nginx_proxy(backend.candidate.address, sockets.address).await?;
        let world = world(&backend, &sockets).await?;
        let program = serve(&world)?;
        let ours = candidate(&program);
        Ok(Self { world, ours, haproxy, nginx, backend, sockets, program })
    }

    pub fn log(&self) -> String {
        self.program.log()
    }
}

/// The conformance world with an extension in front of the backend.
pub async fn world(backend: &Peer, sockets: &Backend) -> Result<World> {
    let world = World::start().await?;
    world.write_extension(EXTENSION, &format!("http://{}", backend.candidate.address), "")?;
    world.write_extension(SOCKETS, &sockets.url(), "")?;
    Ok(world)
}

/// The same with many applications, projects and policy lines.
pub async fn large_world(backend: &Peer, sockets: &Backend) -> Result<World> {
    let world = world(backend, sockets).await?;
    large::extend(&world, APPLICATIONS)?;
    Ok(world)
}

/// With one thread for requests, as its peers have.
pub fn serve(world: &World) -> Result<Program> {
    world.serve(&["--workers", "1"])
}

pub fn candidate(program: &Program) -> Candidate {
    Candidate { name: "ours", address: program.address, usage: program.usage() }
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

/// Lets this process and those that it starts have as many files open as the bench needs.
pub fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= FILES) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(FILES));
    let raised = Rlimit { current: Some(FILES), maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        bail!("{FILES} files must be open at one time: run `ulimit -n {FILES}` first, or this as root");
    }
    Ok(())
}

/// A program that was given by its path.
pub fn given(path: PathBuf) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("{}: no such program", path.display()))
}
