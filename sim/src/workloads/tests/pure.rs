use super::*;
use crate::workloads::behaviour::glob;
use crate::workloads::hash;
use crate::workloads::kubelet::{Doing, Script};
use crate::workloads::rounding::{Bounds, Round, resolve};

#[test]
fn percentages_round_as_kubernetes_rounds_them() {
    let quarter = json!("25%");
    assert_eq!(resolve(Some(&quarter), 10, Round::Up), 3);
    assert_eq!(resolve(Some(&quarter), 10, Round::Down), 2);
    assert_eq!(resolve(Some(&json!(4)), 10, Round::Down), 4);
    assert_eq!(resolve(None, 10, Round::Up), 0);
    let bounds = |replicas: i64, surge: Value, unavailable: Value| {
        let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let found = Bounds::of(&json!({"spec": {"replicas": replicas, "strategy": {"rollingUpdate": rolling}}}));
        (found.surge, found.unavailable)
    };
    assert_eq!(bounds(3, quarter.clone(), quarter.clone()), (1, 0));
    assert_eq!(bounds(3, json!(0), quarter), (0, 1), "something has to give");
    assert_eq!(bounds(2, json!(0), json!(5)), (0, 2));
}

#[test]
fn patterns() {
    for (pattern, text) in
        [("*:bad", "registry.bank/teller:bad"), ("te?ler*", "teller"), ("*", ""), ("a*b*c", "axxbyc")]
    {
        assert!(glob(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("*:bad", "teller:bad2"), ("?", ""), ("teller", "tellers"), ("a*b", "acbd")] {
        assert!(!glob(pattern, text), "{pattern} {text}");
    }
}

#[test]
fn hashes_tell_templates_apart() {
    let (one, other) = (json!({"spec": 1}), json!({"spec": 2}));
    assert_eq!(hash::template(&one, 0), hash::template(&one, 0));
    assert_ne!(hash::template(&one, 0), hash::template(&other, 0));
    assert_ne!(hash::template(&one, 0), hash::template(&one, 1));
    assert_eq!(hash::digest(&["teller"]).len(), 64);
}

#[test]
fn a_crashing_container_backs_off_longer_each_time() {
    let origin: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
    let script = Script::Crashes { after: seconds(1), times: 2 };
    let (mut at, mut starts, mut last) = (origin, Vec::new(), None);
    loop {
        let scene = script.at(origin, at);
        if let Doing::Running { since } = scene.doing
            && last != Some(since)
        {
            starts.push(since.duration_since(origin).as_secs());
            last = Some(since);
        }
        let Some(next) = scene.next else {
            assert!(matches!(scene.doing, Doing::Ended { succeeded: true, .. }));
            assert_eq!(scene.restarts, 2);
            break;
        };
        assert!(next > at, "time goes on");
        at = next;
    }
    assert_eq!(starts, [1, 12, 33]);
}
