//! What the containers of one pod leave for each other.

use std::fs;

use interlock_core::{
    backup::{plan::EXCHANGE_PATH, result::RunResult},
    drill::report::DrillReport,
};

use super::Place;

const RESULT: &str = "result.json";
const DRILL: &str = "drill.json";
const SOURCE: &str = "source-exit";
const SOURCE_GROUP: &str = "source-group";

fn write(place: &Place, name: &str, text: &str) -> Result<(), String> {
    let dir = place.at(EXCHANGE_PATH);
    let (partial, whole) = (dir.join(format!(".{name}.partial")), dir.join(name));
    let failed = |error: std::io::Error| format!("{} cannot be written: {error}", whole.display());
    fs::write(&partial, text).map_err(failed)?;
    fs::rename(&partial, &whole).map_err(failed)
}

/// How the tool ended.
pub(super) fn leave(place: &Place, result: &RunResult) -> Result<(), String> {
    let text = serde_json::to_string(result).map_err(|error| error.to_string())?;
    write(place, RESULT, &text)
}

/// How the tool ended, if it left word.
pub(super) fn find(place: &Place) -> Option<RunResult> {
    let text = fs::read_to_string(place.at(EXCHANGE_PATH).join(RESULT)).ok()?;
    serde_json::from_str(&text).ok()
}

/// How the program ended whose output is stored.
pub(super) fn leave_source(place: &Place, code: i32) -> Result<(), String> {
    write(place, SOURCE, &code.to_string())
}

/// The same, read.
pub(super) fn find_source(place: &Place) -> Option<i32> {
    fs::read_to_string(place.at(EXCHANGE_PATH).join(SOURCE)).ok()?.trim().parse().ok()
}

/// The process group of the program whose output is stored.
pub(super) fn leave_source_group(place: &Place, group: u32) -> Result<(), String> {
    write(place, SOURCE_GROUP, &group.to_string())
}

/// The same, read. What the source runs may write it too, and to signal group 1 would be to signal everything.
pub(super) fn find_source_group(place: &Place) -> Option<u32> {
    let group = fs::read_to_string(place.at(EXCHANGE_PATH).join(SOURCE_GROUP)).ok()?;
    group.trim().parse().ok().filter(|group| *group > 1)
}

/// How a tool of a drill ended.
pub(super) fn leave_drill(place: &Place, report: &DrillReport) -> Result<(), String> {
    let text = serde_json::to_string(report).map_err(|error| error.to_string())?;
    write(place, DRILL, &text)
}

/// The same, read.
pub(super) fn find_drill(place: &Place) -> Option<DrillReport> {
    let text = fs::read_to_string(place.at(EXCHANGE_PATH).join(DRILL)).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_would_be_everything_is_none() {
        let root = tempfile::tempdir().unwrap();
        let place = Place { root: root.path().to_owned() };
        fs::create_dir_all(place.at(EXCHANGE_PATH)).unwrap();
        assert_eq!(find_source_group(&place), None);
        for (group, found) in [(4_242, Some(4_242)), (1, None), (0, None)] {
            leave_source_group(&place, group).unwrap();
            assert_eq!(find_source_group(&place), found, "{group}");
        }
    }
}
