//! How many pods a share of the traffic needs.

/// Pods of the new version that give it about `weight` percent when they are added to `stable` pods of the old one:
/// `ceil(stable * weight / (100 - weight))`, at least one. For 1 to 50; 100 promotes and is no number of pods.
pub fn added_pods(stable: u32, weight: u8, most: Option<u32>) -> u32 {
    if weight == 0 {
        return 0;
    }
    let weight = u64::from(weight.min(99));
    let pods = (u64::from(stable) * weight).div_ceil(100 - weight);
    capped(pods, most)
}

/// Pods that carry `weight` percent of what `full` pods carry: `ceil(full * weight / 100)`, at least one.
pub fn pods_for(full: u32, weight: u8, most: Option<u32>) -> u32 {
    if weight == 0 {
        return 0;
    }
    capped((u64::from(full) * u64::from(weight.min(100))).div_ceil(100), most)
}

fn capped(pods: u64, most: Option<u32>) -> u32 {
    let pods = u32::try_from(pods.max(1)).unwrap_or(u32::MAX);
    most.map_or(pods, |most| pods.min(most.max(1)))
}

/// The share that `ready` of the `full` pods can carry, in whole percent.
pub fn share_of(ready: u32, full: u32) -> u8 {
    if full == 0 {
        return 100;
    }
    u8::try_from(u64::from(ready) * 100 / u64::from(full)).unwrap_or(100).min(100)
}

/// The share that the new version has by number of ready pods, in whole percent.
pub fn share_by_pods(old: u32, new: u32) -> u8 {
    let all = u64::from(old) + u64::from(new);
    (u64::from(new) * 100).checked_div(all).map_or(0, |share| u8::try_from(share).unwrap_or(100))
}

/// Pods of a batch that must be ready for it to count: all but `threshold` percent, rounded down, at least one.
pub fn required_ready(batch: u32, threshold: u8) -> u32 {
    if batch == 0 {
        return 0;
    }
    let kept = 100 - u64::from(threshold.min(99));
    u32::try_from(u64::from(batch) * kept / 100).unwrap_or(batch).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r06_pods_are_added_to_the_stable_ones() {
        assert_eq!([8, 4, 1, 100].map(|n| added_pods(n, 25, None)), [3, 2, 1, 34]);
        assert_eq!(added_pods(4, 50, None), 4);
        assert_eq!(added_pods(100, 50, Some(7)), 7);
        assert_eq!(
            (added_pods(0, 10, None), added_pods(5, 0, None)),
            (1, 0),
            "one pod tests the version even at size 0"
        );
    }

    #[test]
    fn a_share_rounds_towards_capacity() {
        assert_eq!((pods_for(4, 25, None), pods_for(4, 26, None), pods_for(3, 1, None)), (1, 2, 1));
        assert_eq!((share_of(3, 4), share_of(2, 3), share_of(9, 4), share_of(0, 0)), (75, 66, 100, 100));
    }

    #[test]
    fn r23_a_batch_counts_with_a_few_failures() {
        let required = |pods| required_ready(pods, 20);
        assert_eq!([1, 3, 6, 10].map(required), [1, 2, 4, 8]);
        assert_eq!((required_ready(5, 0), required_ready(0, 20)), (5, 0));
    }
}
