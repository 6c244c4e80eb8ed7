//! The last container of a pod: counts what came back, and tells how the tool ended.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use interlock_core::{
    backup::result::RunnerStage,
    drill::{
        objects::manifest_path,
        plan::DrillWork,
        report::{DrillReport, RestoredReport},
    },
};

use super::super::{Place, note};
use super::{data, manifest, plan, tell};

/// Reads back and tells.
pub(in super::super) fn execute(place: &Place) -> ExitCode {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let noted = note::find_drill(place).filter(|report| report.run == plan.run);
    let restores = matches!(plan.work, DrillWork::Restore { .. });
    let mut report = noted.unwrap_or_else(|| {
        let why = "the tool left no word of how it ended";
        eprintln!("error: {why}");
        let mut none = DrillReport::new(&plan.run);
        none.error_count = 1;
        none.errors.push(why.to_owned());
        none
    });
    if restores && report.exit_code == Some(0) && report.errors.is_empty() {
        report.stage = RunnerStage::ReadBack;
        report.restored = match report.restored.take().map(|told| count(place, told)) {
            Some(Ok(restored)) => {
                report.stage = RunnerStage::Done;
                Some(restored)
            }
            Some(Err(why)) => {
                eprintln!("error: {why}");
                None
            }
            None => None,
        };
    }
    tell(place, &report)
}

/// What lies on the volume, whatever the tool counted.
fn count(place: &Place, told: RestoredReport) -> Result<RestoredReport, String> {
    let path = place.at(&manifest_path());
    let failed = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
    let summed =
        manifest::sum(data(place).as_ref(), None, &mut |line| file.write_all(line.as_bytes()).map_err(failed))?;
    file.flush().map_err(failed)?;
    file.get_ref().sync_all().map_err(failed)?;
    println!("{} files, {} bytes lie on the volume; manifest {}", summed.files, summed.bytes, summed.digest);
    Ok(RestoredReport { files: summed.files, bytes: summed.bytes, manifest_digest: summed.digest.to_string(), ..told })
}
