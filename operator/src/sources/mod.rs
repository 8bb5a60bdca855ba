//! Where the inputs come from.

pub mod cluster;
pub mod folder;
pub mod revocations;

use std::time::Duration;

use backon::ExponentialBuilder;

const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long to wait before a source that failed is asked again: without end, and not all replicas at once.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
}
