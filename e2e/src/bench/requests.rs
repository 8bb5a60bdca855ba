//! Small requests: how many, at what cost, how late, whoever asks for whatever.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::world::World;

use super::Options;
use super::apart::Apart;
use super::arena::{self, APPLICATIONS, Arena};
use super::generator::{Pace, Requests, same};
use super::large::{self, PROJECTS};
use super::measure::{Lane, Sample, Samples, rounds};
use super::peers::Candidate;
use super::table::{Row, count, micros, millis};

const CONNECTIONS: usize = 64;
const USERS: usize = 1_000;
/// In how many parts a round with new starts is measured: each of the three is the first one in one of them.
const TURNS: u32 = 3;
/// By how much rounds are more, and shorter, where it is measured how late answers are: the machine stands still once
/// or twice a second, and half of such rounds know nothing of it.
const MORE: usize = 16;
const SHORTER: u32 = 8;
/// New tokens in a round, fewer than are remembered.
const NEW_TOKENS: usize = 1_500;

pub fn lane(candidate: &Candidate, requests: &Requests, pace: Pace) -> Lane {
    Lane { candidate: candidate.clone(), requests: requests.clone(), connections: CONNECTIONS, pace }
}

/// The same request through each. All are started anew for each round, and take their turns in it: from one start to
/// the next a candidate differs by more than from one round to the next.
pub async fn simple(options: &Options) -> Result<[Samples; 3]> {
    let mut samples: [Samples; 3] = Default::default();
    for _ in 0..options.rounds {
        let arena = Arena::start().await?;
        let of_this_start = through_each(&arena, Pace::For(options.time / TURNS), TURNS as usize).await?;
        samples.iter_mut().zip(of_this_start).for_each(|(all, new)| all.extend(new));
    }
    Ok(samples)
}

async fn through_each(arena: &Arena, pace: Pace, count: usize) -> Result<[Samples; 3]> {
    let requests = arena::simple("x", &arena.world.token()?);
    let candidates = arena.candidates();
    let _apart = Apart::keep(&candidates, &arena.backend.candidate)?;
    rounds(candidates.map(|candidate| lane(candidate, &requests, pace)), count).await
}

pub fn throughput([ours, haproxy, nginx]: &[Samples; 3]) -> Vec<Row> {
    let ratio = ours.ratio(haproxy, |sample| sample.per_second);
    let throughput = Row::new(
        "requests a second, 64 connections, local account, one thread each",
        "≥ 1 × HAProxy",
        format!("{ratio:.2} × HAProxy"),
        ratio >= 1.0,
    );
    let cpu = |sample: &Sample| sample.cpu.as_secs_f64();
    let ratio = ours.ratio(haproxy, cpu);
    let cost = Row::new("CPU a request", "≤ 1 × HAProxy", format!("{ratio:.2} × HAProxy"), ratio <= 1.0);
    let columns = [("ours", ours), ("HAProxy", haproxy), ("nginx", nginx)];
    let per_second = |row: Row, (name, samples): (&'static str, &Samples)| {
        row.value(name, count(samples.median(|sample| sample.per_second)))
    };
    let costs = |row: Row, (name, samples): (&'static str, &Samples)| {
        row.value(name, micros(samples.median_time(|sample| sample.cpu)))
    };
    vec![columns.into_iter().fold(throughput, per_second), columns.into_iter().fold(cost, costs)]
}

/// Each at half of what HAProxy bears, so that all have the same to do.
pub async fn latency(arena: &Arena, simple: &[Samples; 3], options: &Options) -> Result<Row> {
    let [ours, haproxy, _] = simple;
    let bearable = |samples: &Samples| samples.median(|sample| sample.per_second);
    let rate = bearable(haproxy).min(bearable(ours)) / 2.0;
    let pace = Pace::PerSecond(rate, options.time / SHORTER);
    let [ours, haproxy, nginx] = through_each(arena, pace, options.rounds * MORE).await?;
    let ratio = ours.ratio(&haproxy, |sample| sample.p99.as_secs_f64());
    let what = format!("p99 at {} requests a second, half of the load that saturates", count(rate));
    let row = Row::new(&what, "≤ 1.2 × HAProxy", format!("{ratio:.2} × HAProxy"), ratio <= 1.2);
    let columns = [("ours", &ours), ("HAProxy", &haproxy), ("nginx", &nginx)];
    Ok(columns.into_iter().fold(row, |row, (name, samples)| {
        let (p50, p99) = (samples.median_time(|sample| sample.p50), samples.median_time(|sample| sample.p99));
        row.value(name, format!("{} (p50 {})", millis(p99), millis(p50)))
    }))
}

/// Single sign-on, many groups, a large world: one caller again and again, and everybody for everything.
pub async fn large(arena: &Arena, options: &Options) -> Result<Vec<Row>> {
    let world = arena::large_world(&arena.backend, &arena.sockets, APPLICATIONS).await?;
    let [simple, one, everything] = in_a_large_world(arena, &world, options).await?;
    let per_second = |sample: &Sample| sample.per_second;
    let ratio = one.ratio(&simple, per_second);
    let of_one = Row::new(
        "requests a second (CPU each): SSO token, 40 groups, 2,000 policy lines, 5,000 applications, 200 projects",
        "≥ 0.95 × a local account in a small world",
        format!("{ratio:.2} × {}", shown(&simple)),
        ratio >= 0.95,
    );
    let ratio = 1.0 / everything.ratio(&simple, per_second);
    let of_everything = Row::new(
        "the same, each request for another application, 1,000 users",
        "≤ 1.3 × slower than the simple case",
        format!("{ratio:.2} × slower than {}", shown(&simple)),
        ratio <= 1.3,
    );
    let first = first_requests(&world, options).await?;
    Ok(vec![of_one.value("ours", shown(&one)), of_everything.value("ours", shown(&everything)), first])
}

/// A simple request in a small world, one caller's of the large world again and again, and everybody's for everything.
pub async fn in_a_large_world(arena: &Arena, world: &World, options: &Options) -> Result<[Samples; 3]> {
    let program = arena::serve(world)?;
    let large = arena::candidate(&program);
    let _apart = Apart::keep(&[&arena.ours, &large], &arena.backend.candidate)?;
    let pace = Pace::For(options.time);
    let one = arena::request("x", &large::token(&world.provider, 0)?, "argocd:app-0", "p0");
    let tokens: Vec<String> = (0..USERS).map(|user| large::token(&world.provider, user)).collect::<Result<_>>()?;
    let lanes = [
        lane(&arena.ours, &arena::simple("x", &arena.world.token()?), pace),
        lane(&large, &same(one), pace),
        lane(&large, &everybody(tokens), pace),
    ];
    rounds(lanes, options.rounds).await
}

/// Requests a second, and what each takes of a processor.
pub fn shown(samples: &Samples) -> String {
    let cpu = samples.median_time(|sample| sample.cpu);
    format!("{} ({})", count(samples.median(|sample| sample.per_second)), micros(cpu))
}

/// Callers and applications in an order in which no pair comes again for millions of requests.
fn everybody(tokens: Vec<String>) -> Requests {
    Arc::new(move |n, bytes| {
        let user = n % tokens.len();
        let application = (n * 7 + n / tokens.len()) % APPLICATIONS;
        let name = format!("argocd:app-{application}");
        let request = arena::request("x", &tokens[user], &name, &format!("p{}", application % PROJECTS));
        bytes.extend_from_slice(request.as_bytes());
    })
}

/// What a token costs that was never seen before, against one that is known, for the same request.
async fn first_requests(world: &World, options: &Options) -> Result<Row> {
    let mut costs = Vec::new();
    for round in 0..options.rounds {
        // Remembers nothing yet.
        let program = arena::serve(world)?;
        let candidate = arena::candidate(&program);
        let users = (round + 1) * 1_000_000;
        let tokens: Vec<String> =
            (0..NEW_TOKENS).map(|i| large::token(&world.provider, users + i)).collect::<Result<_>>()?;
        let requests: Requests = Arc::new(move |n, bytes| {
            let request = arena::request("x", &tokens[n % tokens.len()], "argocd:app-0", "p0");
            bytes.extend_from_slice(request.as_bytes());
        });
        let another = large::token(&world.provider, users - 1)?;
        let warm_up = same(arena::request("x", &another, "argocd:app-0", "p0"));
        lane(&candidate, &warm_up, Pace::Count(NEW_TOKENS)).measure().await?;
        let lane = lane(&candidate, &requests, Pace::Count(NEW_TOKENS));
        let (new, known) = (lane.measure().await?.cpu, lane.measure().await?.cpu);
        costs.push(new.saturating_sub(known));
    }
    costs.sort();
    let cost = costs[costs.len() / 2];
    let limit = Duration::from_micros(100);
    let what = "CPU of an SSO token's first request (RS256, 40 groups) above that of the next";
    Ok(Row::new(what, "≤ 100 µs", micros(cost), cost <= limit).value("ours", micros(cost)))
}
