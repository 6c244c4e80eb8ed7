//! The fast track: a version that served well a short time ago.

use interlock_rehearsal::{history::deployment, people::Act, world::Happening};
use serde_json::json;

use super::play::{history, play, propose, status_of, told, votes};

/// The version of the start comes back so long after another one was released; how long its release took, in seconds.
fn takes(back_after: i64, fast_track: Option<&str>) -> i64 {
    let mut plan = json!({"canary": {"steps": [{"setWeight": 50}, {"pause": {"duration": "300s"}}]}});
    if let Some(span) = fast_track {
        plan["fastTrack"] = json!(span);
    }
    let mut more: Vec<(i64, Act)> = vec![propose("back", back_after, &[deployment("web-0", "web:zero")])];
    more.extend(votes("back", back_after + 5_000));
    let (world, timeline) = play(&history(&plan, Vec::new(), &[deployment("web-0", "web:new")], more));
    assert_eq!(status_of(&world, "back")["phase"], "Succeeded", "{}", told(&world));
    let at = |phase: &str| {
        timeline.iter().find_map(|happening| match happening {
            Happening::Stored(audit) if audit.id.name == "back" => {
                audit.new.as_ref().filter(|new| new["status"]["phase"] == phase).map(|_| audit.at.as_second())
            }
            _ => None,
        })
    };
    at("Succeeded").unwrap() - at("Running").unwrap()
}

#[test]
fn r12_the_version_before_comes_back_at_once_within_the_fast_track_and_by_every_step_after_it() {
    assert!(takes(400_000, Some("10m")) < 60, "known to be good");
    assert!(takes(1_200_000, Some("10m")) >= 300, "too long ago");
    assert!(takes(400_000, None) >= 300, "the plan has no fast track");
}
