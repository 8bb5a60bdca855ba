//! Waiting for what happens soon.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// Asks again and again until the answer is yes. How long it took.
pub async fn until<F: Future<Output = Result<bool>>>(what: &str, mut ask: impl FnMut() -> F) -> Result<Duration> {
    let started = Instant::now();
    while !ask().await? {
        if started.elapsed() > PATIENCE {
            bail!("{what}: not within {PATIENCE:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(started.elapsed())
}
