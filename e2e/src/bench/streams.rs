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
use super::table::{Row, megabytes};

/// Downloads at one time.
const CONNECTIONS: usize = 4;
const WEBSOCKETS: usize = 10_000;
const OPENED_AT_ONCE: usize = 50;

pub async fn downloads(arena: &Arena, options: &Options) -> Result<Vec<Row>> {
    let token = arena.world.token()?;
    let mut rows = Vec::new();
    for (name, _) in FILES {
        let requests = arena::simple(name, &token);
        let candidates = [&arena.ours, &arena.haproxy.candidate, &arena.nginx.candidate];
        let lanes = candidates.map(|candidate| Lane {
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
        rows.push(["ours", "HAProxy", "nginx"].into_iter().zip(&samples).fold(row, |row, (name, samples)| {
            row.value(name, format!("{}/s", megabytes(samples.median(speed) as u64)))
        }));
    }
    Ok(rows)
}

/// Memory that each WebSocket takes of the proxy.
pub async fn websockets(arena: &Arena) -> Result<Row> {
    let token = arena.world.token()?;
    let ours = memory_of_each(&arena.ours, &token).await?;
    let haproxy = memory_of_each(&arena.haproxy.candidate, &token).await?;
    let nginx = memory_of_each(&arena.nginx.candidate, &token).await?;
    let kilobytes = |bytes: u64| format!("{:.1} KB", bytes as f64 / 1024.0);
    let row = Row::new("memory of each of 10,000 idle WebSockets", "≤ 12 KB", kilobytes(ours), ours <= 12 << 10);
    Ok(row.value("ours", kilobytes(ours)).value("HAProxy", kilobytes(haproxy)).value("nginx", kilobytes(nginx)))
}

async fn memory_of_each(candidate: &Candidate, token: &str) -> Result<u64> {
    let before = candidate.usage.resident()?;
    let mut sockets = Vec::with_capacity(WEBSOCKETS);
    while sockets.len() < WEBSOCKETS {
        let opening = (0..OPENED_AT_ONCE).map(|_| open(candidate, token));
        for socket in futures_util::future::join_all(opening).await {
            sockets.push(socket.context(candidate.name)?);
        }
    }
    // What was only needed to open them is given back by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let held = candidate.usage.resident()?.saturating_sub(before);
    Ok(held / WEBSOCKETS as u64)
}

/// Opens one, with its first message received.
async fn open(candidate: &Candidate, token: &str) -> Result<WebSocketStream<TcpStream>> {
    let mut socket = websocket::open(candidate.address, &format!("/extensions/{SOCKETS}/ws"), token, &[]).await?;
    socket.next().await.context("closed at once")??;
    Ok(socket)
}
