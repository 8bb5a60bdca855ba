//! Candidates in turn under the same load, so that what else the machine does hits all of them.

use std::time::Duration;

use anyhow::Result;

use super::generator::{Load, Pace, Requests};
use super::peers::Candidate;

/// One candidate and what it is asked.
#[derive(Clone)]
pub struct Lane {
    pub candidate: Candidate,
    pub requests: Requests,
    pub connections: usize,
    pub pace: Pace,
}

#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub per_second: f64,
    pub bytes_per_second: f64,
    /// The candidate's own time on a processor for each request.
    pub cpu: Duration,
    pub p50: Duration,
    pub p99: Duration,
}

impl Lane {
    pub async fn measure(&self) -> Result<Sample> {
        let load = Load {
            to: self.candidate.address,
            requests: self.requests.clone(),
            connections: self.connections,
            pace: self.pace,
            may_be_refused: false,
        };
        let before = self.candidate.usage.cpu()?;
        let outcome = load.run().await.map_err(|error| error.context(self.candidate.name))?;
        let used = self.candidate.usage.cpu()? - before;
        Ok(Sample {
            per_second: outcome.per_second(),
            bytes_per_second: outcome.bytes as f64 / outcome.elapsed.as_secs_f64(),
            cpu: used.div_f64(outcome.requests.max(1) as f64),
            p50: outcome.within(500),
            p99: outcome.within(990),
        })
    }
}

/// Samples of each lane, one for each round; a first round warms up. Each round begins with another lane: what the
/// machine does from time to time would else hit the same one again and again.
pub async fn rounds<const N: usize>(lanes: [Lane; N], rounds: usize) -> Result<[Samples; N]> {
    for lane in &lanes {
        let warm_up = match lane.pace {
            Pace::For(time) => Pace::For(time / 4),
            pace => pace,
        };
        Lane { pace: warm_up, ..lane.clone() }.measure().await?;
    }
    let mut samples = [const { Samples(Vec::new()) }; N];
    for round in 0..rounds {
        for turn in 0..N {
            let i = (round + turn) % N;
            samples[i].0.push(lanes[i].measure().await?);
        }
    }
    Ok(samples)
}

/// One lane's, a round each.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub fn median(&self, value: impl Fn(&Sample) -> f64) -> f64 {
        median(self.0.iter().map(value).collect())
    }

    pub fn median_time(&self, value: impl Fn(&Sample) -> Duration) -> Duration {
        Duration::from_secs_f64(self.median(|sample| value(sample).as_secs_f64()))
    }

    /// The median of the rounds' ratios to another lane.
    pub fn ratio(&self, to: &Self, value: impl Fn(&Sample) -> f64) -> f64 {
        median(self.0.iter().zip(&to.0).map(|(own, other)| value(own) / value(other)).collect())
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
