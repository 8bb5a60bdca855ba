//! Callers who call as fast as they can while something else happens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::client::{Connection, Request};

pub struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    callers: JoinSet<Result<()>>,
}

impl Load {
    /// Keeps so many connections busy.
    pub async fn start(to: SocketAddr, request: &Request, connections: usize) -> Result<Self> {
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = JoinSet::new();
        for _ in 0..connections {
            let request = request.clone();
            let mut connection = Connection::open(to).await?;
            let (stop, requests) = (stop.clone(), requests.clone());
            callers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = connection.send(&request).await.context("sending")?;
                    requests.fetch_add(1, Ordering::Relaxed);
                    ensure!(answer.status == 200 && !answer.is_cut_short, "{} {}", answer.status, answer.text());
                    if answer.header("Connection") == Some("close") {
                        connection = Connection::open(to).await.context("connecting again")?;
                    }
                }
                Ok(())
            });
        }
        Ok(Self { stop, requests, callers })
    }

    /// How many requests were answered, and what went wrong.
    pub async fn stop(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(caller) = self.callers.join_next().await {
            match caller {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failures.push(format!("{error:#}")),
                Err(error) => failures.push(error.to_string()),
            }
        }
        (self.requests.load(Ordering::Relaxed), failures)
    }
}
