//! Large answers, and many WebSockets that nobody says anything on.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;

use crate::websocket;

use super::Options;
use super::arena::{self, Arena};
use super::generator::Pace;
use super::measure::{Lane, Sample, rounds};
use super::peers::{Candidate, FILES, SOCKETS};
use super::table::{self, Row, megabytes};

/// Downloads at one time.
const CONNECTIONS: usize = 4;
const WEBSOCKETS: usize = 10_000;
/// Files that a process needs besides.
const OTHER_FILES: usize = 1_000;
const OPENED_AT_ONCE: usize = 50;

pub async fn downloads(arena: &Arena, options: &Options) -> Result<Vec<Row>> {
    let token = arena.world.token()?;
    let mut rows = Vec::new();
    for (name, _) in FILES {
        let requests = arena::simple(name, &token);
        let lanes = arena.candidates().map(|candidate| Lane {
            candidate: candidate.clone(),
            requests: requests.clone(),
            connections: CONNECTIONS,
            pace: Pace::For(options.time),
        });
        let samples = rounds(lanes, options.rounds).await?;
        let speed = |sample: &Sample| sample.bytes_per_second;
        let ratio = samples[0].ratio(&samples[1], speed);
        let what = format!("answers of {name}, {CONNECTIONS} connections");
        let row = Row::new(&what, "≥ 1 × HAProxy", format!("{ratio:.2} × HAProxy"), ratio >= 1.0);
        rows.push(
            ["ours", "HAProxy", "nginx"]
                .into_iter()
                .zip(&samples)
                .fold(row, |row, (name, samples)| row.value(name, format!("{}/s", megabytes(samples.median(speed))))),
        );
    }
    Ok(rows)
}

/// Memory that each WebSocket takes of the proxy, and of HAProxy. Fewer are opened where the system permits fewer files, of which this
/// process and the proxy need two for each.
pub async fn websockets(arena: &Arena, files: u64) -> Result<Row> {
    let count = WEBSOCKETS.min((usize::try_from(files)?.saturating_sub(OTHER_FILES)) / 2);
    let token = arena.world.token()?;
    let ours = memory_of_each(&arena.ours, &token, count).await?;
    let haproxy = memory_of_each(&arena.haproxy.candidate, &token, count).await?;
    let kilobytes = |bytes: u64| format!("{:.1} KB", bytes as f64 / 1024.0);
    let row = Row::new(
        &format!("memory of each of {} idle WebSockets", table::count(count as f64)),
        "≤ 12 KB",
        kilobytes(ours),
        ours <= 12 << 10,
    );
    Ok(row.value("ours", kilobytes(ours)).value("HAProxy", kilobytes(haproxy)))
}

async fn memory_of_each(candidate: &Candidate, token: &str, count: usize) -> Result<u64> {
    let before = candidate.usage.resident()?;
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        let opening = (0..OPENED_AT_ONCE).map(|i| open(candidate, SOCKETS[i % SOCKETS.len()], token));
        for socket in futures_util::future::join_all(opening).await {
            sockets.push(socket.context(candidate.name)?);
        }
    }
    // What was only needed to open them is given back by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let held = candidate.usage.resident()?.saturating_sub(before);
    Ok(held / sockets.len() as u64)
}

/// Opens one, with its first message received.
async fn open(candidate: &Candidate, extension: &str, token: &str) -> Result<WebSocketStream<TcpStream>> {
    let mut socket = websocket::open(candidate.sockets, &format!("/extensions/{extension}/ws"), token, &[]).await?;
    socket.next().await.context("closed at once")??;
    Ok(socket)
}
