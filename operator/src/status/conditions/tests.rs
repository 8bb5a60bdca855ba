use crds::{Problem, ProxyExtensionStatus, Reason, ServiceStatus};
use jiff::Timestamp;

use super::{desired, is_same};
use crate::verdict::{ExtensionReport, Place, State, Verdict};

fn verdict(state: State, problems: Vec<Problem>) -> Verdict {
    let extension = Some(ExtensionReport { name: "metrics".into(), services: vec![] });
    Verdict { place: Place::new("ProxyExtension argocd/metrics", ""), state, extension, problems }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn said(status: &ProxyExtensionStatus) -> Vec<(&str, &str, &str, i64)> {
    let condition =
        |c: &'_ k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| c.last_transition_time.0.as_second();
    status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str(), condition(c))).collect()
}

#[test]
fn times_move_only_on_transitions() {
    let good = desired(&verdict(State::Accepted, vec![]), vec![], Some(1), None, at(1));
    assert_eq!(
        said(&good),
        [
            ("Accepted", "True", "Accepted", 1),
            ("ResolvedRefs", "True", "ResolvedRefs", 1),
            ("Programmed", "True", "Programmed", 1),
            ("BackendsHealthy", "True", "BackendsHealthy", 1)
        ]
    );
    assert_eq!(good.route.as_deref(), Some("/extensions/metrics/"));

    let again = desired(&verdict(State::Accepted, vec![]), vec![], Some(1), Some(&good), at(2));
    assert!(is_same(&again, Some(&good)));
    let newer = desired(&verdict(State::Accepted, vec![]), vec![], Some(2), Some(&good), at(2));
    assert!(!is_same(&newer, Some(&good)), "the generation is another one");

    let missing = Problem::error("f", "no such Secret").because(Reason::RefNotFound);
    let bad = desired(&verdict(State::Invalid, vec![missing]), vec![], Some(2), Some(&newer), at(3));
    assert_eq!(
        said(&bad),
        [
            ("Accepted", "True", "Accepted", 1),
            ("ResolvedRefs", "False", "RefNotFound", 3),
            ("Programmed", "False", "RefNotFound", 3),
            ("BackendsHealthy", "Unknown", "NotProgrammed", 3)
        ]
    );
    assert_eq!(bad.route, None);
}

#[test]
fn what_others_added_is_left_alone() {
    let ours = desired(&verdict(State::Accepted, vec![]), vec![], Some(1), None, at(1));
    let mut theirs = ours.clone();
    let mut condition = theirs.conditions[0].clone();
    condition.type_ = "Blessed".into();
    theirs.conditions.insert(0, condition);
    assert!(is_same(&ours, Some(&theirs)));
    theirs.conditions.retain(|condition| condition.type_ != "Programmed");
    assert!(!is_same(&ours, Some(&theirs)));
}

#[test]
fn a_backend_that_is_down_is_said_with_its_error() {
    let down = ServiceStatus {
        url: "http://b".into(),
        healthy: Some(false),
        last_error: Some("health check /healthz: status 500".into()),
        ..ServiceStatus::default()
    };
    let well = ServiceStatus { url: "http://a".into(), healthy: Some(true), ..ServiceStatus::default() };
    let status = desired(&verdict(State::Accepted, vec![]), vec![well, down], Some(1), None, at(1));
    let condition = status.conditions.iter().find(|condition| condition.type_ == "BackendsHealthy").unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "BackendsDown"));
    assert_eq!(condition.message, "http://b: health check /healthz: status 500");
}
