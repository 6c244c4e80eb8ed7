//! The pods of a run, each made once and followed.

use interlock_crds::ImageRecord;

use super::{DrillWrite, Ended, Pass, PodState, Seen};
use crate::drill::names::PodRole;

/// So many images are recorded.
const MOST_IMAGES: usize = 32;

/// Where a pod is.
pub(super) enum Follow<'a> {
    /// It is not there yet, or still at work; what it waits for.
    Wait(Option<&'a str>),
    /// It ended.
    Ended(&'a PodState, &'a Ended),
    /// It is ready.
    Ready(&'a PodState),
    /// It cannot be had: why.
    Lost(String),
}

impl<'a> Pass<'a> {
    /// Makes a pod, or finds out where it is.
    pub(super) fn follow(&mut self, role: PodRole) -> Follow<'a> {
        let name = role.name(self.facts.uid);
        let known = self.announced(&name).map(|job| job.uid.clone());
        let exchanged = || Follow::Lost(format!("pod {name} was deleted by somebody else than Interlock, or evicted"));
        match (self.facts.pods.get(&role).unwrap_or(&Seen::Unknown), known) {
            (Seen::Unknown, _) => Follow::Wait(None),
            (Seen::Foreign, _) => Follow::Lost(format!("a pod {name} exists that is not of this run")),
            (Seen::Refused(why), None | Some(None)) => {
                Follow::Lost(format!("the API server refused pod {name}: {why}"))
            }
            (Seen::Absent, None | Some(None)) => {
                self.announce(&name);
                self.writes.push(DrillWrite::CreatePod(role));
                Follow::Wait(None)
            }
            (Seen::Absent | Seen::Refused(_), Some(Some(_))) => exchanged(),
            (Seen::Ours(pod), Some(Some(uid))) if pod.uid != uid => exchanged(),
            (Seen::Ours(pod), _) => {
                self.note_uid(&name, &pod.uid);
                self.keep_images(&pod.images);
                match (&pod.ended, pod.ready_at) {
                    (Some(ended), _) => Follow::Ended(pod, ended),
                    (None, Some(_)) if role.serves() => Follow::Ready(pod),
                    (None, _) => Follow::Wait(pod.waiting.as_deref()),
                }
            }
        }
    }

    /// Records images that ran. The digest that a node reports later completes what is known.
    pub(super) fn keep_images(&mut self, images: &[ImageRecord]) {
        for image in images {
            let is = |known: &ImageRecord| known.container == image.container && known.image == image.image;
            let room = self.status.images.len() < MOST_IMAGES;
            match self.status.images.iter_mut().find(|known| is(known)) {
                Some(known) => known.image_id = known.image_id.take().or_else(|| image.image_id.clone()),
                None if room => self.status.images.push(image.clone()),
                None => {}
            }
        }
    }
}
