//! A look at the restored files.

use std::time::{Duration, Instant};

use interlock_core::drill::{objects::manifest_path, plan::restored, report::DrillReport};
use interlock_crds::FilesValidation;

use super::super::Place;
use super::{damage::within, data, done, manifest};

/// Whether everything holds that is asked for. What differs stands in the log alone.
///
/// # Errors
/// It cannot be told.
pub(super) fn validate(
    place: &Place,
    asked: &FilesValidation,
    manifest_digest: Option<&str>,
    limit: Duration,
    report: &mut DrillReport,
) -> Result<(), String> {
    let until = Instant::now() + limit;
    match holds(place, asked, manifest_digest, until) {
        Ok(holds) => {
            report.matches = Some(holds);
            done(report);
            Ok(())
        }
        Err(why) if why == manifest::TOO_LONG => {
            report.timed_out = true;
            Ok(())
        }
        Err(why) => Err(why),
    }
}

fn holds(place: &Place, asked: &FilesValidation, recorded: Option<&str>, until: Instant) -> Result<bool, String> {
    let data = data(place);
    let mut holds = true;
    let mut differs = |why: String| {
        println!("{why}");
        holds = false;
    };
    let files = if asked.verify_all {
        let recorded = recorded.ok_or("what was restored is not on record, so it cannot be compared")?;
        let path = place.at(&manifest_path());
        let mut comparison = manifest::Comparison::with(&path);
        let summed = manifest::sum(data.as_ref(), Some(until), &mut |line| {
            comparison.line(line);
            Ok(())
        })?;
        if summed.digest != *recorded {
            let is_recorded = manifest::hash(&path, None).is_ok_and(|(digest, _)| digest == *recorded);
            let first = comparison.end().filter(|_| is_recorded);
            let first = first.unwrap_or_else(|| "not known, as their manifest is not that of the restore".to_owned());
            differs(format!("the files are not those that were restored; the first that differs: {first}"));
        }
        summed.files
    } else {
        let mut files = 0;
        manifest::walk(data.as_ref(), &mut |_, found| {
            files += i64::from(found.is_file());
            if until <= Instant::now() { Err(manifest::TOO_LONG.to_owned()) } else { Ok(()) }
        })?;
        files
    };
    println!("{files} files");
    // Without any file nothing can be said to be as expected.
    let least = asked.minimum_files.max(1);
    if files < least {
        differs(format!("{files} files are fewer than {least}"));
    }
    for file in &asked.digests {
        match within(place, &restored(&file.path)).and_then(|path| manifest::hash(&path, Some(until))) {
            Ok((found, _)) if found == *file.digest.as_str() => {}
            Ok((found, _)) => differs(format!("{} has digest {found}", file.path)),
            Err(why) if why == manifest::TOO_LONG => return Err(why),
            Err(why) => differs(why),
        }
    }
    Ok(holds)
}
