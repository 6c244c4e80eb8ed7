//! Issue, rotate and reload: A22.

use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use rustls::client::danger::ServerCertVerifier as _;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn names() -> Names {
    Names { ips: vec!["127.0.0.1".parse().expect("ip")], ..Names::of_service("interlock-webhook", "interlock-system") }
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count * 24)
}

#[test]
fn a_leaf_is_accepted_under_its_names_while_it_is_valid_and_under_no_other() {
    let now = at("2026-11-23T12:00:00Z");
    let material = TlsMaterial::new(now, &names()).expect("made");
    assert!(fresh::serves(&material, &names(), now));
    assert!(fresh::serves(&material, &names(), now + days(89)));
    assert!(!fresh::serves(&material, &names(), now + days(91)), "expired");
    assert!(!fresh::serves(&material, &names(), now - days(1)), "not yet valid");
    assert!(fresh::serves(&material, &names(), now - SignedDuration::from_mins(30)), "a clock that is behind");
    let other = Names { dns: vec!["kubernetes.default.svc".into()], ips: vec![] };
    assert!(!fresh::serves(&material, &other, now));
    assert_eq!(material.leaf.not_after(), now + days(90));
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let now = at("2026-11-23T12:00:00Z");
    let authority = Authority::new(now).expect("made");
    let late = authority.not_after() - days(10);
    let leaf = authority.issue(&names().dns, &[], late, late + days(90)).expect("issued");
    assert_eq!(leaf.not_after(), authority.not_after());
}

#[test]
fn what_is_stored_is_read_back() {
    let now = at("2026-11-23T12:00:00Z");
    let mut material = TlsMaterial::new(now, &names()).expect("made");
    for renewal in [Renewal::Stage, Renewal::MarkPublished] {
        material = material.renewed(renewal, now, &names()).expect("renewed");
    }
    let again = TlsMaterial::from_secret_data(&material.secret_data()).expect("read");
    assert_eq!(again.secret_data(), material.secret_data());
    let promoted = again.renewed(Renewal::Promote, now, &names()).expect("renewed");
    let again = TlsMaterial::from_secret_data(&promoted.secret_data()).expect("read");
    assert_eq!(again.retired.len(), 1);
    assert_eq!(again.secret_data(), promoted.secret_data());
    assert!(trusts(again.bundle(now).as_bytes(), &material.bundle(now)));
}

#[test]
fn a_secret_that_lacks_something_is_named_and_debug_shows_no_key() {
    let now = at("2026-11-23T12:00:00Z");
    let material = TlsMaterial::new(now, &names()).expect("made");
    let mut data = material.secret_data();
    data.remove("ca.key");
    let error = TlsMaterial::from_secret_data(&data).expect_err("incomplete");
    assert_eq!(error.to_string(), "ca.key cannot be read: it is missing");
    data.insert("ca.key".into(), b"-----BEGIN".to_vec());
    assert!(TlsMaterial::from_secret_data(&data).expect_err("garbled").to_string().starts_with("ca.key cannot"));
    assert!(!format!("{material:?}").contains("PRIVATE"));
}

type Data = std::collections::BTreeMap<String, Vec<u8>>;

/// A Secret in memory, and webhook configurations whose readers lag behind.
#[derive(Default)]
struct Memory {
    data: Mutex<Option<(Data, u64)>>,
    ca_bundle: Mutex<String>,
    refuse_publishing: std::sync::atomic::AtomicBool,
}

impl CertStore for Memory {
    async fn read(&self) -> Result<Option<Stored>, CertError> {
        let data = self.data.lock().expect("lock").clone();
        data.map(|(data, version)| {
            Ok(Stored { material: TlsMaterial::from_secret_data(&data)?, version: version.to_string() })
        })
        .transpose()
    }

    async fn write(&self, material: &TlsMaterial, version: Option<&str>) -> Result<(), CertError> {
        let mut data = self.data.lock().expect("lock");
        let present = data.as_ref().map(|(_, version)| *version);
        if present.map(|version| version.to_string()).as_deref() != version {
            return Err(CertError::Conflict);
        }
        *data = Some((material.secret_data(), present.unwrap_or(0) + 1));
        Ok(())
    }

    async fn publish(&self, bundle: &str) -> Result<bool, CertError> {
        if self.refuse_publishing.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(CertError::Unavailable("forbidden".into()));
        }
        let mut present = self.ca_bundle.lock().expect("lock");
        if !trusts(present.as_bytes(), bundle) {
            bundle.clone_into(&mut present);
        }
        Ok(true)
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        futures::stream::pending().boxed()
    }
}

/// Whether a client with this bundle accepts the leaf now.
fn accepts(ca_bundle: &str, leaf: &Leaf, now: Timestamp) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    certificates("bundle", ca_bundle).expect("bundle").into_iter().for_each(|root| roots.add(root).expect("root"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .expect("verifier");
    let chain = certificates("leaf", leaf.certificate()).expect("chain");
    let time = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.as_second() as u64));
    let name = rustls::pki_types::ServerName::try_from("interlock-webhook.interlock-system.svc").expect("name");
    verifier.verify_server_cert(&chain[0], &[], &name, &[], time).is_ok()
}

#[tokio::test]
async fn through_thirty_years_every_served_leaf_is_trusted_by_what_the_api_server_knew_before() {
    let store = Memory::default();
    let mut now = at("2026-11-23T12:00:00Z");
    let end = now + days(30 * 365);
    let (mut leaves, mut authorities) = (0, 0);
    let mut last: Option<(Leaf, String)> = None;
    while now < end {
        // What the API server believes lags: it knows the bundle from before this look.
        let known_before = store.ca_bundle.lock().expect("lock").clone();
        let fresh = load_or_create(&store, &names(), now).await.expect("fresh");
        let leaf = fresh.material.leaf.clone();
        if let Some((old_leaf, old_authority)) = &last {
            assert!(accepts(&known_before, &leaf, now), "{now}: a new leaf must be trusted before it is served");
            assert!(
                accepts(&store.ca_bundle.lock().expect("lock"), old_leaf, now),
                "{now}: replicas that lag still serve it"
            );
            leaves += u32::from(old_leaf != &leaf);
            authorities += u32::from(old_authority != fresh.material.authority.certificate());
        }
        assert!(leaf.not_after() <= fresh.material.authority.not_after());
        assert!(now.duration_until(leaf.not_after()) > days(20), "{now}: renewed in good time");
        assert!(fresh.next > now);
        last = Some((leaf, fresh.material.authority.certificate().to_owned()));
        // The controller looks at the instant that it named, or up to a week late.
        now = fresh.next.max(now + SignedDuration::from_secs(1));
        if leaves % 3 == 0 {
            now += SignedDuration::from_hours(24);
        }
    }
    assert!((4..=6).contains(&authorities), "{authorities} authorities");
    assert!(leaves > 150, "{leaves} leaves");
}

#[tokio::test]
async fn without_publishing_the_new_authority_is_never_used_but_leaves_are_still_renewed() {
    let store = Memory::default();
    let mut now = at("2026-11-23T12:00:00Z");
    let first = load_or_create(&store, &names(), now).await.expect("fresh");
    store.refuse_publishing.store(true, std::sync::atomic::Ordering::SeqCst);
    let authority = first.material.authority.certificate().to_owned();
    for _ in 0..70 {
        now += days(45);
        let fresh = load_or_create(&store, &names(), now).await.expect("fresh");
        assert_eq!(fresh.material.authority.certificate(), authority);
        assert!(fresh.material.leaf.is_valid_at(now));
    }
}

#[tokio::test]
async fn two_replicas_that_start_together_serve_one_authority() {
    let store = Memory::default();
    let now = at("2026-11-23T12:00:00Z");
    let (names_of_one, names_of_other) = (names(), names());
    let (one, other) =
        futures::join!(load_or_create(&store, &names_of_one, now), load_or_create(&store, &names_of_other, now));
    assert_eq!(one.expect("one").material.secret_data(), other.expect("other").material.secret_data());
}

#[tokio::test]
async fn a_leaf_without_the_wanted_names_is_reissued() {
    let store = Memory::default();
    let now = at("2026-11-23T12:00:00Z");
    load_or_create(&store, &names(), now).await.expect("fresh");
    let more = Names { ips: vec!["10.9.8.7".parse().expect("ip")], ..names() };
    let fresh = load_or_create(&store, &more, now).await.expect("fresh");
    assert!(fresh::serves(&fresh.material, &more, now));
}
