//! Waiting for what happens soon.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// Asks again and again until the answer is yes. How long it took.
pub async fn until<F: Future<Output = Result<bool>>>(what: &str, ask: impl FnMut() -> F) -> Result<Duration> {
    within(PATIENCE, what, ask).await
}

/// The same with another patience.
pub async fn within<F: Future<Output = Result<bool>>>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<Duration> {
    let started = Instant::now();
    while !ask().await? {
        if started.elapsed() > patience {
            bail!("{what}: not within {patience:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(started.elapsed())
}
